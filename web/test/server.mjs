// A real `rccs serve` for a test, on free ports, with data of its own.
import { spawn, execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** The program under test: RCCS_BIN, or what `make build` made. */
export const program = process.env.RCCS_BIN ?? new URL("../../bin/rccs", import.meta.url).pathname;

const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("RCCS_")));

/** Waits until f returns something true, and returns that. */
export async function until(what, f, ms = 120_000) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await f();
    if (value) return value;
    if (Date.now() > end) throw new Error(`did not happen within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export async function serve(...flags) {
  const { token } = typeof flags[0] === "object" ? flags.shift() : {};
  const dir = await mkdtemp(join(tmpdir(), "rccs-console-"));
  const data = join(dir, "data");
  const args = ["serve", "--data", data, "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", ...flags];
  if (token) {
    await writeFile(join(dir, "token"), token, { mode: 0o600 });
    args.push("--admin-token-file", join(dir, "token"));
  }
  const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  child.stdout.on("data", (d) => (text += d));
  child.stderr.on("data", (d) => (text += d));
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const line = (name) => new RegExp(`^${name} +(\\S+)`, "m").exec(text)?.[1];
  await until("rccs says where it listens", () => {
    if (child.exitCode !== null) throw new Error("rccs ended:\n" + text);
    return line("admin");
  });
  const admin = line("admin").replace(/\/+$/, "");
  const at = { RCCS_DATA: data, RCCS_SERVER: line("nats"), RCCS_URL: line("devices") };
  return {
    admin,
    devices: at.RCCS_URL,
    data,
    log: () => text,
    /** Runs a command against this server to its end, and returns what it printed. */
    rccs: async (...words) => (await run(program, words, { env: { ...env, ...at } })).stdout,
    /** Starts a command and returns the process; it ends with the server at the latest. */
    start: (...words) => {
      const p = spawn(program, words, { env: { ...env, ...at }, stdio: ["ignore", "ignore", "pipe"] });
      p.said = "";
      p.stderr.on("data", (d) => (p.said += d));
      ended.then(() => p.kill("SIGKILL"));
      return p;
    },
    stop: async () => {
      child.kill("SIGTERM");
      await ended;
      await rm(dir, { recursive: true, force: true });
    },
  };
}
