// Chromium with pages of one origin that have the built SDK.
import { mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { chromium, type BrowserContext, type Page } from "playwright-core";

export async function bundle(contents: string, alias: Record<string, string> = {}): Promise<string> {
  const out = await build({ stdin: { contents, resolveDir: new URL("../..", import.meta.url).pathname, loader: "tsx" }, bundle: true, format: "esm", write: false, jsx: "automatic", alias, define: { "process.env.NODE_ENV": '"development"' } });
  return out.outputFiles[0]!.text;
}

/** Serves a page that has a program. */
export async function serve(js: string): Promise<http.Server> {
  const server = http.createServer((q, r) => {
    if (q.url === "/app.js") return void r.setHeader("content-type", "text/javascript").end(js);
    r.setHeader("content-type", "text/html").end('<!doctype html><meta charset="utf-8"><title>t</title><div id="root"></div><script type="module" src="/app.js"></script>');
  });
  await new Promise<void>((r) => server.listen(0, "127.0.0.1", r));
  return server;
}

export const portOf = (server: http.Server): number => (server.address() as AddressInfo).port;
export const executablePath = process.env["CHROMIUM"] || "/usr/bin/chromium";

export class Site {
  port: number;
  #dir = mkdtempSync(join(tmpdir(), "rccs-chromium-"));
  context!: BrowserContext;

  private constructor(readonly server: http.Server) {
    this.port = portOf(server);
  }

  static async open(js: string): Promise<Site> {
    const s = new Site(await serve(js));
    s.context = await chromium.launchPersistentContext(s.#dir, { executablePath, args: ["--no-sandbox", "--disable-background-networking"], headless: true, timeout: 120_000 });
    s.context.setDefaultTimeout(120_000);
    return s;
  }

  async page(path = "/"): Promise<Page> {
    const p = await this.context.newPage();
    await p.goto(`http://localhost:${this.port}${path}`);
    await p.waitForFunction("window.ready");
    return p;
  }

  async close(): Promise<void> {
    await this.context?.close();
    this.server.close();
    rmSync(this.#dir, { recursive: true, force: true, maxRetries: 5 });
  }
}
