// A tab, and what its page tells.

import { toBytes, toText } from '../bytes.mjs';

/** A tab of a window. Its page runs `in-page.mjs`. */
export class Tab {
  #shown;
  #hear = () => {};
  #scripts = new Map();

  static async open(context) {
    const page = await context.newPage();
    const devtools = await context.newCDPSession(page);
    await devtools.send('Runtime.enable');
    await devtools.send('Network.enable');
    await devtools.send('Runtime.addBinding', { name: 'interopTell' });
    return new Tab(page, devtools);
  }

  constructor(page, devtools) {
    this.page = page;
    this.devtools = devtools;
    devtools.on('Runtime.bindingCalled', ({ payload }) => this.#hear(JSON.parse(payload, toBytes)));
    page.on('requestfinished', (request) => this.#keepScript(request));
    page.on('requestfailed', (request) => this.#keepScript(request));
  }

  /** Whether its page is the one at `url`, with the module at `script`. */
  shows(url, script) {
    return this.#shown?.url === url && this.#shown.script === script;
  }

  /** Shows the page at `url`, with the module at `script`, in the place of what is there. */
  async show(url, script) {
    this.#shown = undefined;
    await this.page.goto(url);
    await this.#load({ url, script });
  }

  async #load(shown) {
    await this.#evaluate(`import(${JSON.stringify(shown.script)}).then(() => {})`);
    this.#shown = shown;
  }

  /** Loads the page anew, as a user does. */
  async reload() {
    await this.page.reload();
    await this.#load(this.#shown);
  }

  /** Ends the page, whatever it does. */
  async blank() {
    this.#shown = undefined;
    await this.page.goto('about:blank');
  }

  /** What the page tells goes to `hear` from now on. */
  tellsTo(hear) {
    this.#hear = hear;
    this.#scripts.clear();
  }

  /** Lets the client with that number do something. */
  run(number, commands) {
    return this.#evaluate(`interop.run(${number}, ${JSON.stringify(JSON.stringify(commands, toText))})`);
  }

  /** Disconnects the tab from all networks, or connects it again. */
  setOffline(offline) {
    const conditions = { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 };
    return this.devtools.send('Network.emulateNetworkConditions', conditions);
  }

  async #evaluate(expression) {
    const { exceptionDetails } = await this.devtools.send('Runtime.evaluate', { expression, awaitPromise: true });
    if (exceptionDetails) throw new Error(`in a page: ${exceptionDetails.exception?.description}`);
  }

  /** What the script at `url` was, once it is known: its status and text, or nothing if it did not arrive. */
  scriptAt(url) {
    return this.#script(url).answer;
  }

  #script(url) {
    if (!this.#scripts.has(url)) {
      const script = {};
      script.answer = new Promise((resolve) => {
        script.resolve = resolve;
      });
      this.#scripts.set(url, script);
    }
    return this.#scripts.get(url);
  }

  async #keepScript(request) {
    const url = request.url();
    if (request.resourceType() !== 'script' || !url.includes('jsonp=')) return;
    const { resolve } = this.#script(url);
    const response = await request.response().catch(() => null);
    const status = response?.status();
    // An error is a failure as well, but an answer.
    if (!response || (request.failure() && status === 200)) resolve(undefined);
    else resolve({ status, text: await response.text().catch(() => '') });
  }
}
