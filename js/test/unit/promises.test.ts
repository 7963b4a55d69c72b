// docs/sdk.md names the tests that show each promise: they exist.
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const repo = fileURLToPath(new URL("../../../", import.meta.url));
const read = (dir: string, end: string): Array<[name: string, text: string]> =>
  readdirSync(repo + dir)
    .filter((f) => f.endsWith(end))
    .map((f) => [f.slice(0, -end.length), readFileSync(`${repo}${dir}/${f}`, "utf8")]);

test("each promise of docs/sdk.md is shown by tests that exist", () => {
  const go = ["client", "internal/sdktest"].flatMap((dir) => read(dir, "_test.go")).map(([, text]) => text).join("\n");
  const js = new Map(["unit", "node", "browser"].flatMap((dir) => read(`js/test/${dir}`, ".test.ts")));
  const rows = readFileSync(`${repo}docs/sdk.md`, "utf8").split("\n").filter((l) => l.startsWith("| ")).slice(2);
  expect(rows.length).toBeGreaterThan(25);
  for (const row of rows) {
    const [, promise, goTests, jsTests] = row.split("|").map((c) => c.trim()) as [string, string, string, string];
    for (const [name] of goTests.matchAll(/Test\w+/g)) expect(go, `${promise}: ${name}`).toContain(`func ${name}(`);
    const shown = [...jsTests.matchAll(/(?:`(\w+)\.test`: )?"([^"]+)"/g)];
    expect(shown.length, promise).toBeGreaterThan(0);
    let file = "";
    for (const [, named, title] of shown) {
      file = named ?? file;
      const titles = [...(js.get(file) ?? "").matchAll(/\btest(?:\.skipIf\(.*\))?\(\s*(?:"(.*?)"|`(.*?)`),/g)].map((m) => m[1] ?? m[2]);
      expect(titles.some((t) => t!.includes(title!)), `${promise}: ${file}.test: ${title}`).toBe(true);
    }
  }
});
