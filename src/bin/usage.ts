/*
 * usage: how a command ends early with one line on stderr.
 *
 *   UsageError    a command line that cannot be carried out: exit code 2
 *   FoundWrong    the run found what it was told to look for: exit code 1
 */
export class UsageError extends Error {
  readonly command: string;
  constructor(message: string, command = '') {
    super(message);
    this.command = command;
  }
}

export class FoundWrong extends Error {}
