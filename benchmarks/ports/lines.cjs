// A port's side of lines.py in JavaScript, for `node --require`: the global `parity`.
const fs = require("fs");
let rest = "", started = 0, out = [], given = null;

// What a port has printed leaves the pipes such that they would rather fail than wait.
function patiently(operation) {
  for (;;) {
    try { return operation(); } catch (error) { if (error.code !== "EAGAIN") throw error; }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 0.1);
  }
}

function line() {
  const parts = [rest];
  const chunk = Buffer.alloc(1 << 20);
  while (!parts.at(-1).includes("\n")) {
    const size = patiently(() => fs.readSync(0, chunk));
    if (!size) process.exit(0);
    parts.push(chunk.toString("latin1", 0, size));
  }
  const text = parts.join(""), end = text.indexOf("\n");
  rest = text.slice(end + 1);
  return text.slice(0, end);
}
const numbers = () => line().split(" ").map(Number);
const say = (name, values) => out.push(`\nparity ${name} ${Array.from(values).join(" ")}\n`);

globalThis.parity = {
  tokens: [],
  step: 0,
  // Waits for the next step, and gives its number; a state that was loaded is in place.
  next(params, m, v) {
    for (;;) {
      const [word, ...values] = line().split(" ");
      if (word === "load") {
        this.step = +values[0];
        numbers().forEach((x, i) => { params[i].data = x; });
        numbers().forEach((x, i) => { m[i] = x; });
        numbers().forEach((x, i) => { v[i] = x; });
      } else {
        this.tokens = values.map(Number);
        given = word === "update" ? numbers() : null;
        started = process.hrtime.bigint();
        return this.step++;
      }
    }
  },
  logits(values) { say("logits", values); },
  // The gradients that backward gave; those that the parent gave take their place.
  gradients(params) {
    say("grads", params.map(p => p.grad));
    if (given) given.forEach((g, i) => { params[i].grad = g; });
  },
  answer(loss, params, m, v) {
    say("seconds", [Number(process.hrtime.bigint() - started) / 1e9]);
    say("loss", [loss]);
    say("params", params.map(p => p.data));
    say("m", m);
    say("v", v);
    let left = Buffer.from(out.join("") + "\nparity done\n");
    while (left.length) left = left.subarray(patiently(() => fs.writeSync(1, left)));
    out = [];
  },
};
