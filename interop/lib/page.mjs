// As much of a browser's page as CometD's client looks at and Node.js does not have.

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
