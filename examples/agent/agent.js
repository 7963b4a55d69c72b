// A coding agent on a desktop, without the model: it plans commands for a task, asks the phone before each, runs them in a
// scratch folder, and tells all of the user's devices on a topic what happens.
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { connect } from "@rccs/client";
import { fileStore, WebSocket } from "@rccs/client/node";

/** Starts an agent; returns its client. `o`: url, credentials, directory, and log, which is told each line. */
export function agent({ url, credentials, directory, log = () => {} }) {
  const scratch = join(directory, "scratch");
  mkdirSync(scratch, { recursive: true });
  const rccs = connect(url, { credentials, type: "desktop", platform: process.platform, capabilities: { agent: true }, store: fileStore(join(directory, "state")), WebSocket });
  const tasks = new Map(); // by id: what is running, and who waits for a decision
  const tell = (event) => rccs.publish("tasks", { at: Date.now(), by: rccs.session?.deviceId, ...event }).catch((e) => log(e.message));

  /** What a model would say. A line that begins with $ is taken as it is. */
  const plan = (prompt) => {
    const own = prompt.split("\n").filter((l) => l.startsWith("$ ")).map((l) => l.slice(2));
    const name = prompt.toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 24).replace(/^-|-$/g, "") || "task";
    return own.length ? own : [`mkdir -p ${name} && ls -la`, `echo '# ${name}' > ${name}/README.md && cat ${name}/README.md`, `for i in 1 2 3 4 5; do echo "test $i: ok"; sleep 0.3; done`];
  };

  const run = (task, step) =>
    new Promise((resolve) => {
      const p = spawn("sh", ["-c", step], { cwd: scratch, detached: true });
      task.stop = () => process.kill(-p.pid, "SIGTERM");
      for (const out of [p.stdout, p.stderr]) out.on("data", (d) => void tell({ task: task.id, kind: "output", text: String(d) }));
      p.on("close", (code, signal) => resolve(signal ?? code));
    });

  const work = async (task) => {
    for (; task.next < task.plan.length && !task.ended; task.next++) {
      const step = task.plan[task.next];
      if (!task.answers.has(task.next)) await tell({ task: task.id, kind: "ask", step: task.next, text: step });
      while (!task.answers.has(task.next) && !task.ended) await new Promise((wake) => (task.wake = wake));
      if (task.ended) break;
      const ok = task.answers.get(task.next);
      await tell({ task: task.id, kind: ok ? "run" : "skip", step: task.next });
      if (ok) await tell({ task: task.id, kind: "exit", step: task.next, code: await run(task, step) });
    }
    tasks.delete(task.id);
    if (task.ended !== "handed") await tell({ task: task.id, kind: task.ended ?? "done" });
  };

  const end = (task, how) => {
    task.ended = how;
    task.stop?.();
    task.wake?.();
  };

  /** What this agent was at when it ended goes on, with the step that it was at. The topic knows. */
  const resume = async () => {
    await rccs.ready();
    const open = new Map();
    for await (const { payload: e } of rccs.history({ topic: "tasks" })) {
      const task = open.get(e.task);
      if (e.kind === "start") open.set(e.task, { id: e.task, by: e.by, prompt: e.prompt, plan: e.plan, next: e.next ?? 0, answers: new Map() });
      else if (["done", "cancelled", "handover"].includes(e.kind)) open.delete(e.task);
      else if (task && e.step !== undefined) task.next = e.step + (e.kind === "exit" || e.kind === "skip" ? 1 : 0);
    }
    for (const task of open.values()) {
      if (task.by !== rccs.session?.deviceId || tasks.has(task.id)) continue;
      log(`goes on: ${task.prompt}`);
      tasks.set(task.id, task);
      void work(task);
    }
  };
  const resumed = resume().catch((e) => log(e.message)); // what is said of a task waits until it is known again

  rccs.on("task_start", async ({ taskId, prompt, plan: given, next = 0 }) => {
    await resumed;
    if (tasks.has(taskId)) return;
    log(`task: ${prompt}`);
    const task = { id: taskId, prompt, plan: given ?? plan(prompt), next, answers: new Map() };
    tasks.set(taskId, task);
    await tell({ task: taskId, kind: "start", prompt, plan: task.plan, next });
    void work(task);
  });
  rccs.on("approval", async ({ taskId, step, ok }) => {
    await resumed;
    const task = tasks.get(taskId);
    if (task?.next !== step || task.answers.has(step)) return;
    task.answers.set(step, ok);
    task.wake?.();
  });
  rccs.on("task_cancel", async ({ taskId }) => {
    await resumed;
    if (tasks.has(taskId)) end(tasks.get(taskId), "cancelled");
  });
  rccs.on("handover", async ({ taskId, to }) => {
    await resumed;
    const task = tasks.get(taskId);
    if (!task) return;
    end(task, "handed");
    await tell({ task: taskId, kind: "handover", to });
    await rccs.send("task_start", { taskId, prompt: task.prompt, plan: task.plan, next: task.next }, { to });
  });
  rccs.onError((e) => log(`${e.code}: ${e.message}`));
  return rccs;
}
