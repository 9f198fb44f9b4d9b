// Waiting for conditions, never for long enough.

const WAIT_MAX_MS = 60_000;

/** Resolves when `condition` holds, which is looked at again and again. */
export async function until(condition, what = condition.toString()) {
  const deadline = Date.now() + WAIT_MAX_MS;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited in vain for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Resolves with the next payload of an event. */
export function next(client, name, matches = () => true) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no event ${name}`)), WAIT_MAX_MS);
    const off = client.on(name, (payload) => {
      if (!matches(payload)) return;
      clearTimeout(timer);
      off();
      resolve(payload);
    });
  });
}
