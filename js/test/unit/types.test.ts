// The types are the contract's, exactly: what is assignable one way is the other way, and nothing more is exported.
import { readFileSync } from "node:fs";
import ts from "typescript";
import { expect, test } from "vitest";

const path = (p: string) => new URL(p, import.meta.url).pathname;
const ours = path("../../dist/index.d.ts");
const theirs = path("../contract.d.ts");

const exportsOf = (file: string) => {
  const program = ts.createProgram([file], { module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, target: ts.ScriptTarget.ES2022, skipLibCheck: true });
  const checker = program.getTypeChecker();
  const symbol = checker.getSymbolAtLocation(program.getSourceFile(file)!)!;
  return checker.getExportsOfModule(symbol).map((s) => s.name).sort();
};

test("what is exported is what the contract names", () => {
  expect(exportsOf(ours)).toEqual(exportsOf(theirs).filter((name) => name !== "Common"));
});

test("each exported type is the contract's", () => {
  const text = readFileSync(theirs, "utf8");
  const names = [...text.matchAll(/^export (?:type|interface|class) (\w+)/gm)].map((m) => m[1]!);
  const values = [...text.matchAll(/^export (?:function|class) (\w+)/gm)].map((m) => m[1]!);
  expect(names.length).toBeGreaterThan(20);
  const lines = [
    `import type * as A from "../dist/index.js"; import type * as B from "./contract.js";`,
    `type Same<X, Y> = (<T>() => T extends X ? 1 : 2) extends (<T>() => T extends Y ? 1 : 2) ? true : ([X] extends [Y] ? ([Y] extends [X] ? true : false) : false);`,
    ...names.map((n) => `export const t_${n}: Same<A.${n}, B.${n}> = true; export const k_${n}: Same<keyof A.${n}, keyof B.${n}> = true;`),
    ...values.map((n) => `export const v_${n}: Same<typeof A.${n}, typeof B.${n}> = true;`),
  ];
  const name = path("../check.ts");
  const options: ts.CompilerOptions = { strict: true, noEmit: true, module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, target: ts.ScriptTarget.ES2022, lib: ["lib.es2023.d.ts", "lib.dom.d.ts"], skipLibCheck: true };
  const host = ts.createCompilerHost(options);
  const read = host.getSourceFile;
  host.getSourceFile = (f, ...rest) => (f === name ? ts.createSourceFile(f, lines.join("\n"), ts.ScriptTarget.ES2022) : read(f, ...rest));
  const program = ts.createProgram([name], options, host);
  const problems = ts.getPreEmitDiagnostics(program).map((d) => `${d.file?.fileName.split("/").at(-1)}: ${ts.flattenDiagnosticMessageText(d.messageText, " ")} ${d.file && d.start !== undefined ? lines[d.file.getLineAndCharacterOfPosition(d.start).line] : ""}`);
  expect(problems).toEqual([]);
});
