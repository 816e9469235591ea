type Inside = Record<symbol, unknown>;

/**
 * Makes instances of `lazy` pass for instances of `real`: `instanceof` holds, and each own property that the runtime
 * sets on its instances is read from the real object.
 */
export function standIn(lazy: { readonly real: object }, real: object, sample: object): void {
  Object.setPrototypeOf(lazy, real);
  delete (lazy as { constructor?: unknown }).constructor;
  for (const symbol of Object.getOwnPropertySymbols(sample)) {
    Object.defineProperty(lazy, symbol, {
      get(this: { real: Inside }) {
        return this.real[symbol];
      },
      set(this: { real: Inside }, value: unknown) {
        this.real[symbol] = value;
      },
    });
  }
}
