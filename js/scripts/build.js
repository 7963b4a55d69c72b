// Builds dist: a module an entry point, what they share in modules beside them, declarations, source maps.
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import ts from "typescript";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

// Names of members that never leave a client: not seen by programs, not sent to an edge, not put into a store, not said to another
// page. A program's own minifier cannot know that and would keep them, so they are short in what is published.
const inner = new Set(
  "adopt answer answered ask awaited buffered busy bytes core deferred dirty down drop emit end ended entry envelope fail final first flush flying fulfil giveUp handles head idle jobs joins keeper line listen listeners load part promise prove queue receive refused renewable report respond resting resultOf retry sent serve setState settled stored stream strikes take tied tries unhandled unsent unwanted up wait who write".split(
    " ",
  ),
);
checkInner();

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
  mangleProps: new RegExp(`^(${[...inner].join("|")})$`),
  external: ["react", "react/jsx-runtime", "ws", "tweetnacl", "node:*"],
  chunkNames: "chunk-[hash]",
});
execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", root, "--emitDeclarationOnly"], { stdio: "inherit" });

/** Fails where one of the names is a member of something that is not the client's own, or not known to be, or public. */
function checkInner() {
  const { options, fileNames } = ts.parseJsonConfigFileContent(ts.readConfigFile(join(root, "tsconfig.json"), ts.sys.readFile).config, ts.sys, root);
  const program = ts.createProgram(fileNames, options);
  const checker = program.getTypeChecker();
  const own = (file) => file.fileName.startsWith(join(root, "src/")) && !file.fileName.endsWith("/types.ts");
  const wrong = [];
  const look = (node, file) => {
    const name = ts.isPropertyAccessExpression(node) ? node.name : ts.isBindingElement(node) && ts.isObjectBindingPattern(node.parent) ? (node.propertyName ?? node.name) : undefined;
    if (name && ts.isIdentifier(name) && inner.has(name.text)) {
      const symbol = ts.isBindingElement(node) ? checker.getTypeAtLocation(node.parent).getProperty(name.text) : checker.getSymbolAtLocation(name);
      if (!symbol?.declarations?.length || !symbol.declarations.every((d) => own(d.getSourceFile())))
        wrong.push(`${file.fileName}:${file.getLineAndCharacterOfPosition(name.getStart()).line + 1} ${name.text}`);
    }
    if (ts.isElementAccessExpression(node) && ts.isStringLiteral(node.argumentExpression) && inner.has(node.argumentExpression.text)) wrong.push(`${file.fileName} ["${node.argumentExpression.text}"]`);
    ts.forEachChild(node, (n) => look(n, file));
  };
  const files = program.getSourceFiles().filter((f) => f.fileName.startsWith(join(root, "src/")));
  for (const file of files) look(file, file);
  for (const file of files.filter((f) => f.fileName.endsWith("/types.ts")))
    ts.forEachChild(file, function visit(n) {
      if ((ts.isPropertySignature(n) || ts.isMethodSignature(n)) && inner.has(n.name.getText())) wrong.push(`types.ts ${n.name.getText()}`);
      ts.forEachChild(n, visit);
    });
  if (wrong.length) throw new Error(`these names are not the client's own:\n${wrong.join("\n")}`);
}
