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
  expect(problemsOf(lines)).toEqual([]);
});

// What index.d.ts of the contract says of the other entry points, in its comments at the end.
test("the other entry points export what the contract names, with its types", () => {
  const lines = [
    `import type { Capabilities, Client, Credentials, Device, Message, SendOptions, Sent, State, Store, TopicItem } from "./contract.js"; import type { ReactNode } from "react";`,
    `import type * as N from "../dist/node.js"; import type * as R from "../dist/react.js"; import type * as S from "../dist/seal.js";`,
    `type Same<X, Y> = [X] extends [Y] ? ([Y] extends [X] ? true : false) : false;`,
    `interface Sealing { capabilities: Capabilities; sendSealed(c: Client, type: string, payload: unknown, o: SendOptions & { to: string }): Promise<Sent>; open(c: Client, message: Message): Promise<any>; accept(c: Client, device: string): Promise<void> }`,
    `interface Node { fileStore(directory: string): Store; WebSocket: new (url: string, protocols?: string[]) => WebSocket }`,
    `interface React { RccsProvider(p: { client: Client; children?: ReactNode }): ReactNode; useRccs(): Client; useConnection(): State; useDevices(): Device[];`,
    `  useMessages(type: string, handler: (payload: any, message: Message) => unknown): void; useTopic(topic: string, o?: { since?: number | string | Date }): TopicItem[] }`,
    `interface Seal { sealing(o: { store: Store; credentials: Credentials | string }): Promise<Sealing> }`,
    ...[["Node", "N"], ["React", "R"], ["Seal", "S"]].flatMap(([theirs, ours]) => [
      `export const k_${ours}: Same<keyof ${theirs}, keyof typeof import("../dist/${theirs!.toLowerCase()}.js")> = true;`,
      `export const t_${ours}: Same<${theirs}, Pick<typeof ${ours}, keyof ${theirs}>> = true;`,
    ]),
    `export const t_sealing: Same<Sealing, S.Sealing> = true; export const k_sealing: Same<keyof Sealing, keyof S.Sealing> = true;`,
  ];
  expect(problemsOf(lines)).toEqual([]);
});

/** What the compiler says of these lines. */
function problemsOf(lines: string[]): string[] {
  const name = path("../check.ts");
  const options: ts.CompilerOptions = { strict: true, noEmit: true, module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, target: ts.ScriptTarget.ES2022, lib: ["lib.es2023.d.ts", "lib.dom.d.ts"], skipLibCheck: true };
  const host = ts.createCompilerHost(options);
  const read = host.getSourceFile;
  host.getSourceFile = (f, ...rest) => (f === name ? ts.createSourceFile(f, lines.join("\n"), ts.ScriptTarget.ES2022) : read(f, ...rest));
  const program = ts.createProgram([name], options, host);
  return ts.getPreEmitDiagnostics(program).map((d) => `${d.file?.fileName.split("/").at(-1)}: ${ts.flattenDiagnosticMessageText(d.messageText, " ")} ${d.file && d.start !== undefined ? lines[d.file.getLineAndCharacterOfPosition(d.start).line] : ""}`);
}
