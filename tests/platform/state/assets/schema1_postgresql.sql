CREATE TABLE hyperfd_schema (
	id INTEGER NOT NULL, 
	product VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	created TIMESTAMP WITH TIME ZONE NOT NULL, 
	PRIMARY KEY (id), 
	CHECK (id = 1)
);
CREATE TABLE offline_data (
	id INTEGER NOT NULL, 
	base_id VARCHAR(64) NOT NULL, 
	blob BYTEA NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	created TIMESTAMP WITH TIME ZONE NOT NULL, 
	PRIMARY KEY (id), 
	CHECK (id = 1)
);
CREATE TABLE ranker_versions (
	number INTEGER NOT NULL, 
	parent INTEGER, 
	experiment_id VARCHAR(64), 
	reason TEXT NOT NULL, 
	settings JSON NOT NULL, 
	ranker BYTEA NOT NULL, 
	ranker_sha256 VARCHAR(64) NOT NULL, 
	omega BYTEA NOT NULL, 
	omega_sha256 VARCHAR(64) NOT NULL, 
	created TIMESTAMP WITH TIME ZONE NOT NULL, 
	PRIMARY KEY (number), 
	UNIQUE (parent), 
	FOREIGN KEY(parent) REFERENCES ranker_versions (number), 
	UNIQUE (experiment_id)
);
CREATE TABLE update_lease (
	id INTEGER NOT NULL, 
	session_id VARCHAR(64), 
	task_id VARCHAR(64), 
	expires FLOAT(53) NOT NULL, 
	PRIMARY KEY (id), 
	CHECK (id = 1)
);
CREATE TABLE tasks (
	id VARCHAR(64) NOT NULL, 
	experiment_id VARCHAR(64) NOT NULL, 
	space_key VARCHAR(64) NOT NULL, 
	space_json TEXT NOT NULL, 
	flops_limit FLOAT(53) NOT NULL, 
	extractor_version INTEGER NOT NULL, 
	phi JSON NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	created TIMESTAMP WITH TIME ZONE NOT NULL, 
	finished TIMESTAMP WITH TIME ZONE, 
	version_before INTEGER, 
	version_after INTEGER, 
	trials_used INTEGER, 
	trials_failed INTEGER, 
	final_phi JSON, 
	PRIMARY KEY (id), 
	UNIQUE (experiment_id), 
	FOREIGN KEY(extractor_version) REFERENCES ranker_versions (number), 
	UNIQUE (version_after)
);
CREATE TABLE experience (
	id SERIAL NOT NULL, 
	task_id VARCHAR(64) NOT NULL, 
	trial_key VARCHAR(64) NOT NULL, 
	parameters JSON NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	ap FLOAT(53), 
	test_ap FLOAT(53), 
	heldout_ap FLOAT(53), 
	seconds FLOAT(53), 
	seed BIGINT NOT NULL, 
	budget VARCHAR(64) NOT NULL, 
	created TIMESTAMP WITH TIME ZONE NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (task_id, trial_key), 
	FOREIGN KEY(task_id) REFERENCES tasks (id)
);
CREATE INDEX ix_experience_task_id ON experience (task_id);
CREATE TABLE offline_features (
	task_id VARCHAR(64) NOT NULL, 
	blob BYTEA NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	PRIMARY KEY (task_id), 
	FOREIGN KEY(task_id) REFERENCES tasks (id)
);
CREATE TABLE transformations (
	task_id VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	blob BYTEA NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	PRIMARY KEY (task_id), 
	FOREIGN KEY(task_id) REFERENCES tasks (id), 
	FOREIGN KEY(version) REFERENCES ranker_versions (number)
);
