// Builds dist: a module an entry point, what they share in modules beside them, declarations, source maps.
import { execFileSync } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
rmSync(join(root, "dist"), { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: ["src/index.ts", "src/react.tsx", "src/node.ts", "src/seal.ts"].filter((f) => existsSync(join(root, f))),
  outdir: "dist",
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  sourcemap: true,
  jsx: "automatic",
  external: ["react", "react/jsx-runtime", "ws", "tweetnacl", "node:*"],
  chunkNames: "chunk-[hash]",
});
execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", root, "--emitDeclarationOnly"], { stdio: "inherit" });
