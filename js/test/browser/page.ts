// Chromium with pages of one origin that have the built SDK.
import { mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { chromium, type BrowserContext, type Page } from "playwright-core";

export async function bundle(contents: string, alias: Record<string, string> = {}): Promise<string> {
  const out = await build({ stdin: { contents, resolveDir: new URL("../..", import.meta.url).pathname, loader: "tsx" }, bundle: true, format: "esm", write: false, jsx: "automatic", alias, define: { "process.env.NODE_ENV": '"development"' } });
  return out.outputFiles[0]!.text;
}

export class Site {
  port = 0;
  #server: http.Server;
  #dir = mkdtempSync(join(tmpdir(), "rccs-chromium-"));
  context!: BrowserContext;

  private constructor(js: string) {
    this.#server = http.createServer((q, r) => {
      if (q.url === "/app.js") return void r.setHeader("content-type", "text/javascript").end(js);
      r.setHeader("content-type", "text/html").end('<!doctype html><meta charset="utf-8"><title>t</title><div id="root"></div><script type="module" src="/app.js"></script>');
    });
  }

  static async open(js: string): Promise<Site> {
    const s = new Site(js);
    await new Promise<void>((r) => s.#server.listen(0, "127.0.0.1", r));
    s.port = (s.#server.address() as any).port;
    const executablePath = process.env["CHROMIUM"] || "/usr/bin/chromium";
    s.context = await chromium.launchPersistentContext(s.#dir, { executablePath, args: ["--no-sandbox", "--disable-background-networking"], headless: true });
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
    this.#server.close();
    rmSync(this.#dir, { recursive: true, force: true, maxRetries: 5 });
  }
}
