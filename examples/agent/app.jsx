// The phone: tasks of the user's desktop agents, as the topic tells them.
import { useMemo, useState, useEffect, useRef } from "react";
import { createRoot } from "react-dom/client";
import { connect, enroll, indexedDBStore } from "@rccs/client";
import { RccsProvider, useConnection, useDevices, useRccs, useTopic } from "@rccs/client/react";

const keys = {
  open: () => new Promise((resolve, reject) => { const q = indexedDB.open("agent-key", 1); q.onupgradeneeded = () => q.result.createObjectStore("k"); q.onsuccess = () => resolve(q.result); q.onerror = () => reject(q.error); }),
  async get() { const db = await keys.open(); return new Promise((r) => { const q = db.transaction("k").objectStore("k").get("me"); q.onsuccess = () => r(q.result); }); },
  async set(v) { const db = await keys.open(); return new Promise((r) => { const t = db.transaction("k", "readwrite"); t.objectStore("k").put(v, "me"); t.oncomplete = r; }); },
};

/** The tasks, from what happened to them. */
function tasksOf(items) {
  const tasks = new Map();
  for (const { data: e, seq } of items) {
    if (!e) continue;
    const t = tasks.get(e.task) ?? { id: e.task, log: [], state: "waiting" };
    tasks.set(e.task, t);
    t.by = e.by ?? t.by;
    t.at ??= e.at;
    if (e.kind === "start") { t.prompt = e.prompt; t.plan = e.plan; t.state = "working"; }
    else if (e.kind === "ask") { t.ask = { seq, step: e.step, text: e.text }; t.state = "asks"; }
    else if (e.kind === "run") { t.log.push({ cmd: t.plan?.[e.step] ?? t.ask?.text }); t.ask = undefined; t.state = "working"; }
    else if (e.kind === "skip") { t.log.push({ cmd: t.plan?.[e.step], skipped: true }); t.ask = undefined; t.state = "working"; }
    else if (e.kind === "output") t.log.push({ text: e.text });
    else if (e.kind === "exit") t.log.push({ code: e.code });
    else if (e.kind === "handover") { t.by = e.to; t.state = "moving"; t.ask = undefined; }
    else { t.state = e.kind; t.ask = undefined; }
  }
  return [...tasks.values()].reverse();
}

const words = { working: "Working", asks: "Needs you", done: "Done", cancelled: "Cancelled", waiting: "Waiting", moving: "Moving" };
const ended = (t) => t.state === "done" || t.state === "cancelled";

function Task({ task, desktops }) {
  const rccs = useRccs();
  const [sent, setSent] = useState();
  const out = useRef(null);
  useEffect(() => { out.current?.scrollTo(0, out.current.scrollHeight); }, [task.log.length]);
  const decide = (ok) => { setSent(task.ask.seq); rccs.send("approval", { taskId: task.id, step: task.ask.step, ok }, { to: task.by, priority: "high" }).catch(() => {}); };
  const others = desktops.filter((d) => d.id !== task.by);
  return (
    <article className={task.state} aria-label={task.prompt}>
      <header><h2>{task.prompt?.split("\n")[0]}</h2><span className="tag">{words[task.state]}</span></header>
      <p className="by">on {task.by}</p>
      {task.log.length > 0 && <pre ref={out} role="log">{task.log.map((l, i) => l.cmd ? <b key={i} className={l.skipped ? "skipped" : ""}>{`$ ${l.cmd}\n`}</b> : l.text ? <span key={i}>{l.text}</span> : <i key={i} className={l.code === 0 ? "" : "bad"}>{l.code === 0 ? "" : typeof l.code === "number" ? `exit ${l.code}\n` : "stopped\n"}</i>)}</pre>}
      {task.ask && (sent === task.ask.seq
        ? <p className="sent">Sent. It arrives as soon as {task.by} is there.</p>
        : <section className="ask"><p>May it run this?</p><code>{task.ask.text}</code><div><button className="no" onClick={() => decide(false)}>Refuse</button><button className="yes" onClick={() => decide(true)}>Approve</button></div></section>)}
      {!ended(task) && <footer>
        {others.map((d) => <button key={d.id} onClick={() => rccs.send("handover", { taskId: task.id, to: d.id }, { to: task.by }).catch(() => {})}>Move to {d.id}</button>)}
        <button onClick={() => rccs.send("task_cancel", { taskId: task.id }, { to: task.by }).catch(() => {})}>Cancel</button>
      </footer>}
    </article>
  );
}

function App() {
  const rccs = useRccs();
  const state = useConnection();
  const devices = useDevices();
  const items = useTopic("tasks", { since: 0 });
  const tasks = useMemo(() => tasksOf(items), [items]);
  const desktops = devices.filter((d) => d.type === "desktop");
  const [prompt, setPrompt] = useState("");
  const [to, setTo] = useState("");
  const target = to || desktops.find((d) => d.status !== "offline")?.id || desktops[0]?.id;
  const start = (e) => { e.preventDefault(); if (!prompt.trim() || !target) return; rccs.send("task_start", { taskId: Math.random().toString(36).slice(2), prompt }, { to: target }).catch(() => {}); setPrompt(""); };
  return <>
    <div className="bar"><h1>Agents</h1><span className={`state ${state}`} role="status">{state === "online" ? "Online" : state === "closed" ? "Signed out" : "Offline, keeps what you tap"}</span></div>
    <main>
      <form onSubmit={start}>
        <textarea aria-label="Task" placeholder="What should be done?" rows={2} value={prompt} onChange={(e) => setPrompt(e.target.value)} />
        <div className="row"><div className="desks">{desktops.map((d) => <button type="button" key={d.id} aria-pressed={d.id === target} onClick={() => setTo(d.id)}><i className={d.status} />{d.id}</button>)}</div><button className="yes" disabled={!prompt.trim() || !target}>Start</button></div>
      </form>
      {tasks.length === 0 && <p className="empty">No tasks yet. Say what should be done: the agent asks you before it runs anything.</p>}
      {tasks.map((t) => <Task key={t.id} task={t} desktops={desktops} />)}
    </main>
  </>;
}

async function main() {
  const q = new URLSearchParams(location.hash.slice(1));
  let credentials = await keys.get();
  const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.hostname}:${document.body.dataset.port}`;
  const root = createRoot(document.getElementById("root"));
  try {
    if (!credentials && q.get("code")) await keys.set((credentials = await enroll(url, { code: q.get("code") })));
  } catch (e) {
    return root.render(<p className="empty">This code does not work: {e.message}. Ask for a new one.</p>);
  }
  if (!credentials) return root.render(<p className="empty">Scan a code from the desktop to sign this device in.</p>);
  const client = connect(url, { credentials, onRenewed: keys.set, type: "mobile", platform: "web", capabilities: { supportsNotifications: true }, store: indexedDBStore("agent"), backoff: { minMs: 250, maxMs: 5000 } });
  root.render(<RccsProvider client={client}><App /></RccsProvider>);
}
void main();
