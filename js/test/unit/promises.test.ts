// docs/sdk.md: its table of names is the contract's, and the tests that it names exist.
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { expect, test } from "vitest";

const repo = fileURLToPath(new URL("../../../", import.meta.url));
const read = (dir: string, end: string): Array<[name: string, text: string]> =>
  readdirSync(repo + dir)
    .filter((f) => f.endsWith(end) && !(end === ".go" && f.endsWith("_test.go")))
    .map((f) => [f.slice(0, -end.length), readFileSync(`${repo}${dir}/${f}`, "utf8")]);
const js = new Map(["unit", "node", "browser"].flatMap((dir) => read(`js/test/${dir}`, ".test.ts")));

/** The rows of the table that begins with this head, as cells. */
function table(head: string): string[][] {
  const lines = readFileSync(`${repo}docs/sdk.md`, "utf8").split("\n");
  const at = lines.findIndex((l) => l.startsWith(`| ${head} |`));
  const rest = lines.slice(at + 2);
  return rest.slice(0, rest.findIndex((l) => !l.startsWith("| "))).map((l) => l.split("|").slice(1, -1).map((c) => c.trim()));
}

/** Fails unless each test that a cell names exists. */
function expectTests(row: string, cell: string) {
  const shown = [...cell.matchAll(/(?:`(\w+)\.test`: )?"([^"]+)"/g)];
  expect(shown.length, row).toBeGreaterThan(0);
  let file = "";
  for (const [, named, title] of shown) {
    file = named ?? file;
    const titles = [...(js.get(file) ?? "").matchAll(/\btest(?:\.skipIf\(.*\))?\(\s*(?:"(.*?)"|`(.*?)`),/g)].map((m) => m[1] ?? m[2]);
    expect(titles.some((t) => t!.includes(title!)), `${row}: ${file}.test: ${title}`).toBe(true);
  }
}

test("each promise of docs/sdk.md is shown by tests that exist", () => {
  const go = ["client", "internal/sdktest"].flatMap((dir) => read(dir, "_test.go")).map(([, text]) => text).join("\n");
  const rows = table("promise");
  expect(rows.length).toBeGreaterThan(25);
  for (const [promise, goTests, jsTests] of rows as Array<[string, string, string]>) {
    for (const [name] of goTests.matchAll(/Test\w+/g)) expect(go, `${promise}: ${name}`).toContain(`func ${name}(`);
    expectTests(promise, jsTests);
  }
});

/** What the contract names: exports, members of what they are, and words that a value may be. */
function contract() {
  const file = fileURLToPath(new URL("../contract.d.ts", import.meta.url));
  const source = ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.ES2022, true);
  const names = new Set<string>(),
    words = new Set<string>();
  const members = (of: string, node: ts.Node) => {
    if (ts.isConstructorDeclaration(node)) return;
    if ((ts.isPropertySignature(node) || ts.isMethodSignature(node) || ts.isPropertyDeclaration(node)) && node.name) names.add(`${of}.${node.name.getText()}`);
    else ts.forEachChild(node, (n) => members(of, n));
  };
  const literals = (node: ts.Node) => {
    if (ts.isLiteralTypeNode(node) && ts.isStringLiteral(node.literal)) words.add(node.literal.text);
    ts.forEachChild(node, literals);
  };
  for (const s of source.statements) {
    if (ts.isFunctionDeclaration(s)) names.add(s.name!.text);
    if (!ts.isInterfaceDeclaration(s) && !ts.isClassDeclaration(s) && !ts.isTypeAliasDeclaration(s)) continue;
    const name = s.name!.text;
    if (name !== "Common") names.add(name);
    if (["State", "Priority", "Status", "Outcome"].includes(name)) literals(s);
    if (name === "Common") members("Options", s);
    else if (!["To", "TopicItem"].includes(name)) members(name, s);
  }
  return { names, words };
}

/** What another entry point exports, as it is built. */
function exportsOf(entry: string): string[] {
  const file = fileURLToPath(new URL(`../../dist/${entry}.d.ts`, import.meta.url));
  const program = ts.createProgram([file], { module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, target: ts.ScriptTarget.ES2022, skipLibCheck: true });
  const checker = program.getTypeChecker();
  return checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(file)!)!).map((s) => `${entry}.${s.name}`);
}

test("each name of docs/sdk.md is one of the contract, and each of the contract is there once, with tests that exist", () => {
  const { names, words } = contract();
  for (const entry of ["node", "react", "seal"]) for (const name of exportsOf(entry)) names.add(name);
  for (const member of ["capabilities", "sendSealed", "open", "accept"]) names.add(`Sealing.${member}`);
  expect(names.size).toBeGreaterThan(120);
  const rows = table("name") as Array<[string, string, string, string]>;
  const there = rows.flatMap(([cell]) => [...cell.matchAll(/`([^`]+)`/g)].map((m) => m[1]!));
  expect(there.toSorted()).toEqual([...names].toSorted());
  const text = rows.map(([, what]) => what).join("\n");
  for (const word of words) expect(text, `the word ${word}`).toContain(`\`${word}\``);
  const go = read("client", ".go").map(([, text]) => text).join("\n");
  for (const [cell, , goNames, tests] of rows) {
    for (const [, name] of goNames.matchAll(/`([^`]+)`/g)) {
      const [, of, member] = /^(?:(\w+)\.)?(\w+)$/.exec(name!)!;
      const method = of === "Client" ? `func \\(c \\*Client\\) ${member}\\(` : of ? `^\\t(?:\\w+, )*${member}\\b` : `^(?:func|type) ${member}\\b`;
      expect(new RegExp(method, "m").test(go), `${cell}: Go's ${name}`).toBe(true);
    }
    expectTests(cell, tests);
  }
});
