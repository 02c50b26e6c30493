// NNI's manager gives the tuner ten seconds to start. A machine that tests several things at once needs more.

'use strict';

const wait = globalThis.setTimeout;

globalThis.setTimeout = (action, milliseconds, ...rest) => wait(action, milliseconds === 10000 ? 120000 : milliseconds, ...rest);
