// Builds dist: a module an entry point, what they share in modules beside them, declarations, source maps.
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

// Names of members that never leave a client: not seen by programs, not sent to an edge, not put into a store, not said to another
// page. A program's own minifier cannot know that and would keep them, so they are short in what is published.
const inner =
  "adopt answer answered ask awaited bound buffered busy bytes core deferred dirty down drop emit end ended envelope final first flying giveUp handles head held idle isSent jobs joins line listen listeners load part promise prove queue receive refused renewable resultOf retry sent serve setState settled stored stream strikes take tries unhandled unsent up wait who".split(
    " ",
  );
const types = readFileSync(join(root, "src/types.ts"), "utf8");
const seen = inner.filter((name) => new RegExp(`^\\s+(readonly )?${name}\\??[:(<]|[{;] ${name}\\??:`, "m").test(types));
if (seen.length) throw new Error(`programs see ${seen}: it cannot have another name`);

rmSync(join(root, "dist"), { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: ["src/index.ts", "src/react.tsx", "src/node.ts", "src/seal.ts"],
  outdir: "dist",
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  sourcemap: true,
  jsx: "automatic",
  mangleProps: new RegExp(`^(${inner.join("|")})$`),
  external: ["react", "react/jsx-runtime", "ws", "tweetnacl", "node:*"],
  chunkNames: "chunk-[hash]",
});
execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", root, "--emitDeclarationOnly"], { stdio: "inherit" });
