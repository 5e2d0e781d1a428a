// As much of a browser's page as CometD's client looks at and Node.js does not have.

/** A browser's cookies. One that does not `keep` them forgets them at once. */
export class Jar {
  /** Every `Set-Cookie` header received. */
  headers = [];
  #pairs = new Map();
  #keep;

  constructor({ keep = true } = {}) {
    this.#keep = keep;
  }

  /** What its requests have as `Cookie`, whatever their address: each jar is for one server. */
  cookieFor() {
    return [...this.#pairs.values()].join('; ');
  }

  storeCookie = (uri, header, done) => {
    this.headers.push(header);
    const pair = header.split(';')[0];
    if (this.#keep) this.#pairs.set(pair.split('=')[0], pair);
    done();
  };

  retrieveCookies = (context, uri, done) => done(null, [...this.#pairs.values()]);
}

/** What a tab keeps while its pages come and go: `window.sessionStorage`. */
export class SessionStorage {
  #items = new Map();

  getItem(key) {
    return this.#items.get(key) ?? null;
  }

  setItem(key, value) {
    this.#items.set(key, String(value));
  }

  removeItem(key) {
    this.#items.delete(key);
  }
}

/**
 * A document that loads scripts: `load` yields the text at an address, which then runs where `page` is
 * the `window`, or fails, which the script element is told.
 */
export function documentFor(page, load) {
  const head = {
    async appendChild(script) {
      let text;
      try {
        text = await load(script.src);
      } catch {
        script.onerror({ type: 'error' });
        return;
      }
      new Function('window', `with (window) {\n${text}\n}`)(page);
    },
    removeChild() {},
  };
  return { getElementsByTagName: () => [head], createElement: () => ({}) };
}
