// A real `rccs serve` for tests, and a proxy that cuts what goes through it.
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const repo = fileURLToPath(new URL("../..", import.meta.url));
let program: string | undefined;

/** The program: RCCS_BIN, or built once from this tree. */
export function rccs(): string {
  program ??= process.env["RCCS_BIN"];
  if (!program) {
    program = join(repo, "js/.build/rccs");
    execFileSync("go", ["build", "-o", program, "./cmd/rccs"], { cwd: repo, stdio: "inherit" });
  }
  if (!existsSync(program)) throw new Error(`there is no ${program}`);
  return program;
}

const given = new Set<number>();
/**
 * A port that nobody has, and none that the system gives to outgoing connections, of which other tests make many: those are from 32768 on.
 */
export const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const port = 15_000 + Math.floor(Math.random() * 15_000);
    if (given.has(port)) return resolve(freePort());
    given.add(port);
    const s = net.createServer();
    s.once("error", () => resolve(freePort()));
    s.listen(port, "127.0.0.1", () => s.close(() => resolve(port)));
  });

/** Waits for a condition, far longer than it takes: other tests keep the machine busy. */
export async function until(f: () => unknown, what: string, ms = 120_000): Promise<void> {
  for (const end = Date.now() + ms; ; ) {
    if (await f()) return;
    if (Date.now() > end) throw new Error(`never came: ${what}`);
    await new Promise((r) => setTimeout(r, 20));
  }
}

export class Server {
  data = mkdtempSync(join(tmpdir(), "rccs-js-"));
  process?: ChildProcess | undefined;
  log = "";
  port = 0;
  nats = 0;
  admin = 0;
  #args: string[] = [];

  static async start(...args: string[]): Promise<Server> {
    const s = new Server();
    [s.port, s.nats, s.admin] = [await freePort(), await freePort(), await freePort()];
    s.#args = args;
    await s.start();
    return s;
  }

  get url() {
    return `ws://127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    const at = (port: number) => `127.0.0.1:${port}`;
    const p = (this.process = spawn(rccs(), ["serve", "--data", this.data, "--listen", at(this.port), "--nats-listen", at(this.nats), "--admin-listen", at(this.admin), "--allow-origin", "*", ...this.#args], { stdio: ["ignore", "pipe", "pipe"] }));
    for (const out of [p.stdout, p.stderr]) out?.on("data", (d) => (this.log = (this.log + d).slice(-20_000)));
    await until(async () => {
      if (p.exitCode !== null) throw new Error(`rccs serve ended:\n${this.log}`);
      return (await fetch(`http://${at(this.admin)}/readyz`).catch(() => undefined))?.ok;
    }, "rccs serve is ready");
  }

  /** SIGKILL, as a lost machine. */
  async kill(): Promise<void> {
    const p = this.process!;
    const gone = new Promise((r) => p.once("exit", r));
    p.kill("SIGKILL");
    await gone;
  }

  async stop(): Promise<void> {
    if (this.process && this.process.exitCode === null && this.process.signalCode === null) await this.kill();
    rmSync(this.data, { recursive: true, force: true });
  }

  run(...args: string[]): string {
    return execFileSync(rccs(), args, { encoding: "utf8" });
  }
  token(device: string, ...more: string[]): string {
    return this.run("creds", "device", device, "--bearer", "--data", this.data, ...more).trim();
  }
  creds(device: string): string {
    return this.run("creds", "device", device, "--data", this.data);
  }
  code(user: string, ...more: string[]): string {
    return /[A-Z0-9]{4}-[A-Z0-9]{4}/.exec(this.run("enroll", "code", "--user", user, "--data", this.data, "--server", `nats://127.0.0.1:${this.nats}`, ...more))![0];
  }
}

/** Forwards TCP to a port, and can cut what is open, or let nothing through. */
export class Proxy {
  port = 0;
  down = false;
  #server = net.createServer();
  #open = new Set<net.Socket>();

  static async start(to: number): Promise<Proxy> {
    const p = new Proxy();
    p.#server.on("connection", (a) => {
      if (p.down) return a.destroy();
      const b = net.connect(to, "127.0.0.1");
      for (const [x, y] of [
        [a, b],
        [b, a],
      ] as const) {
        p.#open.add(x);
        x.setNoDelay(true);
        x.pipe(y);
        x.on("error", () => {});
        x.on("close", () => {
          p.#open.delete(x);
          y.destroy();
        });
      }
    });
    await new Promise<void>((r) => p.#server.listen(0, "127.0.0.1", r));
    p.port = (p.#server.address() as net.AddressInfo).port;
    return p;
  }
  get url() {
    return `ws://127.0.0.1:${this.port}`;
  }
  /** Has nothing come through any more on what is open, without a word. */
  hang(): void {
    for (const s of this.#open) s.unpipe().pause();
  }
  cut(): void {
    for (const s of this.#open) s.destroy();
  }
  close(): void {
    this.#server.close();
    this.cut();
  }
}
