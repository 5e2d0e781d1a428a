// Which Chromium, if any.

import { execFileSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import path from 'node:path';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome'];

function runnable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function find() {
  const directories = process.env.PATH.split(path.delimiter);
  const places = directories.flatMap((directory) => NAMES.map((name) => path.join(directory, name)));
  const found = process.env.INTEROP_CHROMIUM || places.find(runnable);
  if (!found) throw new Error('there is no Chromium; INTEROP_WITHOUT=chromium does without');
  return found;
}

const without = (process.env.INTEROP_WITHOUT ?? '').split(' ').includes('chromium');

/** The file to start; undefined where the suite is to do without. */
export const executable = without ? undefined : find();

function version() {
  const stdio = ['ignore', 'pipe', 'ignore'];
  const text = execFileSync(executable, ['--version'], { encoding: 'utf8', stdio });
  return /\d+\.\d+/.exec(text)[0];
}

/** The versions that there are: `156.0`, or none. */
export const CHROMIUM = executable ? [version()] : [];
