// Keeps NNI's web page on this machine:
//
//     NODE_OPTIONS="--require \"$PWD/examples/loopback_only.cjs\"" nnictl create --config examples/hyperfd.yml
//
// NNI 3.0 listens on all network interfaces, asks nobody for a password, and has no setting for either. Its manager is
// a Node.js program, which loads this file first: a server that names no address then gets 127.0.0.1.
// Not for the remote training service, whose machines must reach the manager.

'use strict';

const net = require('node:net');

const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (port, ...rest) {
  const namesNoAddress = typeof port === 'number' && typeof rest[0] !== 'string';
  return namesNoAddress ? listen.call(this, port, '127.0.0.1', ...rest) : listen.call(this, port, ...rest);
};
