-- Records of a real NNI 3.0 experiment: two trials at a time, the second one asked for its parameters first
-- (KvqNF is listed with parameter 0 but ran 1, and failed), stopped and resumed once; paths shortened.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE TrialJobEvent (
    timestamp integer,
    trialJobId text,
    event text,
    data text,
    logPath text,
    sequenceId integer,
    message text,
    environmentId text);
INSERT INTO TrialJobEvent VALUES(1795320405497,'KvqNF','RUNNING','{"parameter_id": 0, "parameter_source": "algorithm", "parameters": {"x": 0, "n": 0}, "parameter_index": 0}','/experiments/shrz1dap/environments/local-env/trials/KvqNF',0,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320405549,'cw57L','RUNNING','{"parameter_id": 1, "parameter_source": "algorithm", "parameters": {"x": 1, "n": 1}, "parameter_index": 0}','/experiments/shrz1dap/environments/local-env/trials/cw57L',1,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320417389,'KvqNF','FAILED',NULL,'/experiments/shrz1dap/environments/local-env/trials/KvqNF',0,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320418365,'sVIU6','RUNNING','{"parameter_id": 2, "parameter_source": "algorithm", "parameters": {"x": 2, "n": 2}, "parameter_index": 0}','/experiments/shrz1dap/environments/local-env/trials/sVIU6',2,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320422009,'cw57L','SUCCEEDED',NULL,'/experiments/shrz1dap/environments/local-env/trials/cw57L',1,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320423045,'C0YmK','RUNNING','{"parameter_id": 3, "parameter_source": "algorithm", "parameters": {"x": 3, "n": 3}, "parameter_index": 0}','/experiments/shrz1dap/environments/local-env/trials/C0YmK',3,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320434150,'sVIU6','SUCCEEDED',NULL,'/experiments/shrz1dap/environments/local-env/trials/sVIU6',2,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320445022,'C0YmK','ADD_RESUMED','',NULL,NULL,NULL,NULL);
INSERT INTO TrialJobEvent VALUES(1795320450949,'C0YmK','RUNNING','{"parameter_id":3,"parameter_source":"resumed","parameters":{"x":3,"n":3},"parameter_index":0}','/experiments/shrz1dap/environments/local-env/trials/C0YmK',3,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320450989,'bItWO','RUNNING','{"parameter_id": 4, "parameter_source": "algorithm", "parameters": {"x": 4, "n": 0}, "parameter_index": 0}','/experiments/shrz1dap/environments/local-env/trials/bItWO',4,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320462341,'bItWO','SUCCEEDED',NULL,'/experiments/shrz1dap/environments/local-env/trials/bItWO',4,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320462570,'fcC72','RUNNING','{"parameter_id": 5, "parameter_source": "algorithm", "parameters": {"x": 5, "n": 1}, "parameter_index": 0}','/experiments/shrz1dap/environments/local-env/trials/fcC72',5,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320463466,'C0YmK','SUCCEEDED',NULL,'/experiments/shrz1dap/environments/local-env/trials/C0YmK',3,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320463605,'IOl5F','RUNNING','{"parameter_id": 6, "parameter_source": "algorithm", "parameters": {"x": 6, "n": 2}, "parameter_index": 0}','/experiments/shrz1dap/environments/local-env/trials/IOl5F',6,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320467411,'fcC72','FAILED',NULL,'/experiments/shrz1dap/environments/local-env/trials/fcC72',5,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320467633,'PvQKX','RUNNING','{"parameter_id": 7, "parameter_source": "algorithm", "parameters": {"x": 7, "n": 3}, "parameter_index": 0}','/experiments/shrz1dap/environments/local-env/trials/PvQKX',7,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320471782,'IOl5F','SUCCEEDED',NULL,'/experiments/shrz1dap/environments/local-env/trials/IOl5F',6,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320472173,'FDELx','RUNNING','{"parameter_id": 8, "parameter_source": "algorithm", "parameters": {"x": 8, "n": 4}, "parameter_index": 0}','/experiments/shrz1dap/environments/local-env/trials/FDELx',8,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320475510,'PvQKX','SUCCEEDED',NULL,'/experiments/shrz1dap/environments/local-env/trials/PvQKX',7,NULL,'local-env');
INSERT INTO TrialJobEvent VALUES(1795320475765,'FYKrh','RUNNING','{"parameter_id": 9, "parameter_source": "algorithm", "parameters": {"x": 9, "n": 5}, "parameter_index": 0}','/experiments/shrz1dap/environments/local-env/trials/FYKrh',9,NULL,'local-env');
CREATE TABLE MetricData (timestamp integer, trialJobId text, parameterId text, type text, sequence integer, data text);
INSERT INTO MetricData VALUES(1795320419830,'cw57L','0','FINAL',0,'"{\"default\": 0.0, \"x\": 0}"');
INSERT INTO MetricData VALUES(1795320432574,'sVIU6','2','FINAL',0,'"{\"default\": 0.2, \"x\": 2}"');
INSERT INTO MetricData VALUES(1795320461947,'bItWO','4','FINAL',0,'"{\"default\": 0.4, \"x\": 4}"');
INSERT INTO MetricData VALUES(1795320462779,'C0YmK','3','FINAL',0,'"{\"default\": 0.30000000000000004, \"x\": 3}"');
INSERT INTO MetricData VALUES(1795320471491,'IOl5F','6','FINAL',0,'"{\"default\": 0.6000000000000001, \"x\": 6}"');
INSERT INTO MetricData VALUES(1795320474530,'PvQKX','7','FINAL',0,'"{\"default\": 0.7000000000000001, \"x\": 7}"');
CREATE TABLE ExperimentProfile (
    params text,
    id text,
    execDuration integer,
    startTime integer,
    endTime integer,
    logDir text,
    nextSequenceId integer,
    revision integer);
INSERT INTO ExperimentProfile VALUES('{"experimentName":"study","experimentType":"hpo","searchSpace":{"x":{"_type":"choice","_value":[1,2,3]}},"trialCommand":"python trial.py","trialCodeDirectory":"/code","trialConcurrency":2,"useAnnotation":false,"debug":false,"logLevel":"info","experimentWorkingDirectory":"/experiments","tuner":{"className":"studytuner.StudyTuner","codeDirectory":"/code","classArgs":{"budget":8}},"trainingService":{"platform":"local","trialCommand":"python trial.py","trialCodeDirectory":"/code","debug":false,"maxTrialNumberPerGpu":1,"reuseMode":false}}','shrz1dap',62,1795320396262,1795320481971,'/experiments/shrz1dap',11,20);
CREATE INDEX TrialJobEvent_trialJobId on TrialJobEvent(trialJobId);
CREATE INDEX TrialJobEvent_event on TrialJobEvent(event);
CREATE INDEX MetricData_trialJobId on MetricData(trialJobId);
CREATE INDEX MetricData_type on MetricData(type);
CREATE INDEX ExperimentProfile_id on ExperimentProfile(id);
COMMIT;
