// An extension that makes the editor a device of its user: it receives tasks, one after the other, and tells what is open.
// A task is acknowledged when the user has opened it. One that nobody has decided on is there again after a restart.
import * as vscode from "vscode";
import { connect, Reject, type Client } from "@rccs/client";
import { fileStore, WebSocket } from "@rccs/client/node";

interface Task {
  title: string;
  text: string;
}

let rccs: Client | undefined;
let status: vscode.StatusBarItem;
/** Asks about the task that waits, if there is one. */
let ask: (() => Promise<void>) | undefined;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  status = vscode.window.createStatusBarItem(vscode.StatusBarAlignment.Left);
  status.command = "rccs.task";
  context.subscriptions.push(
    status,
    vscode.commands.registerCommand("rccs.signIn", () => signIn(context)),
    vscode.commands.registerCommand("rccs.signOut", () => signOut(context)),
    vscode.commands.registerCommand("rccs.task", () => ask?.()),
  );
  await start(context);
}

export async function deactivate(): Promise<void> {
  await rccs?.close();
  rccs = undefined;
}

/** The credentials file holds a key: its text is kept in the system's key store, and nowhere else. */
async function signIn(context: vscode.ExtensionContext): Promise<void> {
  const [file] = (await vscode.window.showOpenDialog({ title: "Credentials of this editor", filters: { Credentials: ["creds"] } })) ?? [];
  if (!file) return;
  await context.secrets.store("credentials", new TextDecoder().decode(await vscode.workspace.fs.readFile(file)));
  await start(context);
}

async function signOut(context: vscode.ExtensionContext): Promise<void> {
  await context.secrets.delete("credentials");
  await start(context);
}

async function start(context: vscode.ExtensionContext): Promise<void> {
  await deactivate();
  const credentials = await context.secrets.get("credentials");
  if (!credentials) return status.hide();
  const url = vscode.workspace.getConfiguration("rccs").get<string>("url")!;
  try {
    rccs = connect(url, {
      credentials,
      type: "editor",
      platform: "vscode",
      version: vscode.version,
      capabilities: { tasks: true },
      store: fileStore(context.globalStorageUri.fsPath),
      WebSocket,
    });
  } catch (error) {
    return void vscode.window.showErrorMessage(`RCCS: ${(error as Error).message}`);
  }
  rccs.onState(showState);
  rccs.onError((error) => console.warn(`rccs: ${error.code}: ${error.message}`));
  rccs.on("task", receive);
  rccs.handle("editor.open", () => vscode.workspace.textDocuments.map((d) => ({ file: d.fileName, language: d.languageId })));
  showState();
}

function showState(): void {
  status.text = ask ? "$(inbox) 1 task" : rccs?.state === "online" ? "$(check) RCCS" : "$(sync) RCCS";
  status.tooltip = `RCCS: ${rccs?.state}`;
  status.show();
}

/** Resolves when the user has opened the task, and the next one comes; refused tasks are refused to their sender. */
function receive(task: Task, { fromDeviceId }: { fromDeviceId: string }): Promise<void> {
  return new Promise<void>((opened, refused) => {
    ask = async () => {
      const choice = await vscode.window.showInformationMessage(`${fromDeviceId}: ${task.title}`, "Open", "Refuse");
      if (choice === "Open") {
        const document = await vscode.workspace.openTextDocument({ language: "markdown", content: `# ${task.title}\n\n${task.text}\n` });
        await vscode.window.showTextDocument(document);
        opened();
      } else if (choice === "Refuse") refused(new Reject("refused by the user"));
      else return; // put off: the status bar asks again
      ask = undefined;
      showState();
    };
    showState();
    void ask();
  });
}
