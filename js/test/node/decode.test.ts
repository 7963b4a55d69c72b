import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

test("decoding allocates what JSON.parse needs, and nothing beside it", () => {
  const said = execFileSync("npm", ["run", "--silent", "bench:decode"], { cwd: fileURLToPath(new URL("../..", import.meta.url)), encoding: "utf8" });
  const [parse, client] = [...said.matchAll(/: (\d+) bytes/g)].map((m) => Number(m[1])) as [number, number];
  expect(parse, said).toBeGreaterThan(100);
  expect(client, said).toBeLessThan(parse * 1.03);
});
