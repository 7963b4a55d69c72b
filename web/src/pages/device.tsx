import { useEffect, useMemo, useState } from "preact/hooks";
import { encode } from "uqr";
import { ApiError, call, listen, path } from "../api";
import { bytes, exact, number } from "../format";
import { go, href } from "../router";
import type { Device, Life, Message, Page, Replayed } from "../types";
import { useLoad } from "../ui/hooks";
import { Choice, Dialog, Empty, Failure, Loading, Payload, Presence, Tag, Time, Words } from "../ui/parts";
import { say } from "../ui/status";

type Asking = "replay" | "revoke" | "forget" | undefined;

export function DevicePage({ user, device }: { user: string; device: string }) {
  const resource = `users/${path(user)}/devices/${path(device)}`;
  const info = useLoad<Device>(resource, {}, 10_000);
  const [asking, ask] = useState<Asking>();
  const d = info.data;
  const gone = info.error?.status === 404;
  const close = () => ask(undefined);
  return (
    <>
      <p class="crumbs">
        <a href={href("devices")}>Devices</a> / <a href={href("devices", { q: user })}>{user}</a>
      </p>
      <div class="title">
        <h1 class="name">
          {user}/{device}
        </h1>
        {d && <Presence status={d.status} />}
        <div class="acts">
          <button type="button" disabled={gone} onClick={() => ask("replay")}>
            Replay missed
          </button>
          <button type="button" onClick={() => ask("revoke")}>
            Revoke
          </button>
          <button type="button" class="danger" disabled={gone} onClick={() => ask("forget")}>
            Forget
          </button>
        </div>
      </div>
      {gone ? (
        <Empty title="No device of this name is registered.">
          <p>It may have been forgotten, or it has never connected.</p>
        </Empty>
      ) : (
        <Failure error={info.error} retry={info.reload} />
      )}
      {!d && info.loading && !gone && <Loading rows={2} />}
      {d && <Facts d={d} />}
      <Messages user={user} device={device} resource={resource} />
      <Credentials user={user} device={device} />
      {asking === "replay" && <Replay user={user} device={device} resource={resource} onClose={close} />}
      {asking === "revoke" && <Revoke user={user} device={device} d={d} onClose={close} onDone={info.reload} />}
      {asking === "forget" && <Forget user={user} device={device} d={d} resource={resource} onClose={close} />}
    </>
  );
}

function Facts({ d }: { d: Device }) {
  const held = Object.entries(d.capabilities ?? {}).filter(([, v]) => v === true || (typeof v === "number" && v !== 0) || (Array.isArray(v) && v.length > 0));
  return (
    <dl class="facts">
      <Fact name="Type">{d.type || "–"}</Fact>
      <Fact name="Platform">{[d.platform, d.version].filter(Boolean).join(" ") || "–"}</Fact>
      <Fact name="Edge">{d.edge ? <a href={href("edges")}>{d.edge}</a> : "–"}</Fact>
      <Fact name="Last seen">
        <Time at={d.lastSeen} />
      </Fact>
      {d.registered && (
        <Fact name="Registered">
          <Time at={d.registered} />
        </Fact>
      )}
      <Fact name="Unacknowledged">{number(d.unacknowledged)}</Fact>
      {held.length > 0 && (
        <Fact name="Capabilities">
          {held.map(([name]) => (
            <Tag key={name}>{name}</Tag>
          ))}
        </Fact>
      )}
    </dl>
  );
}

function Fact({ name, children }: { name: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

const lanes = ["critical", "high", "normal", "low"];

function Messages({ user, device, resource }: { user: string; device: string; resource: string }) {
  const [state, setState] = useState("unacknowledged");
  const [lane, setLane] = useState("");
  const [more, setMore] = useState<{ for: string; items: Message[]; next?: string }>();
  const [failed, setFailed] = useState<ApiError>();
  const first = useLoad<Page<Message>>(`${resource}/inbox`, { state, limit: 100 });
  const unknown = first.error?.status === 404; // which the page says above
  // What arrives or is acknowledged shows at once: the list is loaded again when something flows.
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = listen("live", { tail: `${user}/${device}` }, {
      on: {
        message: () => {
          timer ??= setTimeout(() => {
            timer = undefined;
            first.reload();
          }, 400);
        },
      },
    });
    return () => {
      clearTimeout(timer);
      stop();
    };
  }, [user, device, state]);
  const key = state;
  const rest = more?.for === key ? more : undefined;
  const next = rest ? rest.next : first.data?.next;
  const all = [...(first.data?.items ?? []), ...(rest?.items ?? [])];
  const counts = useMemo(() => {
    const n: Record<string, number> = {};
    for (const m of all) n[m.lane] = (n[m.lane] ?? 0) + 1;
    return n;
  }, [all.length, first.data]);
  const items = lane ? all.filter((m) => m.lane === lane) : all;
  const loadMore = async () => {
    try {
      const page = await call<Page<Message>>(`${resource}/inbox`, { query: { state, limit: 100, after: next } });
      setMore({ for: key, items: [...(rest?.items ?? []), ...page.items], next: page.next });
    } catch (e) {
      setFailed(e as ApiError);
    }
  };
  return (
    <section aria-labelledby="messages">
      <div class="title">
        <h2 id="messages">Messages</h2>
        <Choice
          label="Which messages"
          value={state}
          onChange={setState}
          options={[
            ["unacknowledged", "Unacknowledged"],
            ["rejected", "Rejected"],
            ["all", "All"],
          ]}
        />
        <Choice
          label="Lane"
          value={lane}
          onChange={setLane}
          options={[["", "All lanes"], ...lanes.map((l): [string, string] => [l, counts[l] ? `${l} ${counts[l]}` : l])]}
        />
      </div>
      <Failure error={unknown ? undefined : (first.error ?? failed)} retry={first.reload} />
      {!first.data && !first.error && <Loading />}
      {unknown && <Empty title="Nothing is stored for this device." />}
      {first.data && items.length === 0 && (
        <Empty title={state === "unacknowledged" ? "Nothing waits: the device has acknowledged all that is stored for it." : state === "rejected" ? "The device has refused no message." : "Nothing is stored for this device."} />
      )}
      {items.length > 0 && (
        <div class="scroll">
          <table aria-label="Messages">
            <thead>
              <tr>
                <th class="n">Seq</th>
                <th>Lane</th>
                <th>Type</th>
                <th>Id</th>
                <th class="wide">From</th>
                <th>{state === "rejected" ? "Rejected" : "Stored"}</th>
                <th class="n wide">Size</th>
              </tr>
            </thead>
            <tbody>
              {items.map((m) => (
                <MessageRow key={m.seq} m={m} user={user} />
              ))}
            </tbody>
          </table>
        </div>
      )}
      {next && (
        <button type="button" class="more" onClick={loadMore}>
          Show more
        </button>
      )}
    </section>
  );
}

function MessageRow({ m, user }: { m: Message; user: string }) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <tr class={open ? "open" : ""}>
        <td class="n">{m.seq}</td>
        <td>
          <span class={`lane lane-${m.lane}`}>{m.lane}</span>
        </td>
        <td class="name type">
          <Words text={m.type} />
        </td>
        <td class="name">
          <button type="button" class="link" aria-expanded={open} onClick={() => setOpen(!open)}>
            {m.id}
          </button>
          {m.replay && <Tag>replay</Tag>}
        </td>
        <td class="wide name">{m.from}</td>
        <td>
          <Time at={m.rejectedAt ?? m.stored ?? m.timestamp} />
        </td>
        <td class="n wide">{bytes(m.bytes)}</td>
      </tr>
      {open && (
        <tr class="detail">
          <td colSpan={7}>
            {m.reason && (
              <p>
                <Tag kind="warn">rejected</Tag> {m.reason}
              </p>
            )}
            {m.payload !== undefined && <Payload value={m.payload} encoding={m.encoding} />}
            <LifeOf user={user} id={m.id} />
          </td>
        </tr>
      )}
    </>
  );
}

/** What became of a message, step by step. */
export function LifeOf({ user, id }: { user: string; id: string }) {
  const life = useLoad<Life>(`users/${path(user)}/messages/${path(id)}`);
  if (life.error?.status === 404) return <p class="faint">Nothing more is known of this id.</p>;
  if (life.error) return <Failure error={life.error} retry={life.reload} />;
  if (!life.data) return <Loading rows={2} />;
  return (
    <ol class="life" aria-label="Life of the message">
      {life.data.steps.map((s, i) => (
        <li key={i}>
          <span class="mono faint" title={exact(s.at)}>
            {exact(s.at)}
          </span>{" "}
          <b>{s.what}</b> {s.deviceId && <span class="name">{s.deviceId}</span>} {s.seq ? <span class="faint">#{s.seq}</span> : null}{" "}
          {s.edge && <span class="faint">on {s.edge}</span>} {s.detail && <span class="faint">{s.detail}</span>}
        </li>
      ))}
    </ol>
  );
}

function Replay({ user, device, resource, onClose }: { user: string; device: string; resource: string; onClose: () => void }) {
  const [to, setTo] = useState(device);
  const others = useLoad<Page<Device>>(`users/${path(user)}/devices`, { limit: 1000 });
  const [preview, setPreview] = useState<Replayed>();
  const [error, setError] = useState<ApiError>();
  const body = (dryRun: boolean) => ({ missed: true, dryRun, ...(to === device ? {} : { to: { user, device: to } }) });
  useEffect(() => {
    let current = true;
    setPreview(undefined);
    setError(undefined);
    call<Replayed>(`${resource}/replay`, { method: "POST", body: body(true) }).then(
      (r) => current && setPreview(r),
      (e) => current && setError(e as ApiError),
    );
    return () => {
      current = false;
    };
  }, [to]);
  return (
    <Dialog
      title="Replay missed"
      confirm="Replay"
      blocked={!preview || preview.messages === 0}
      onClose={onClose}
      onConfirm={async () => {
        const r = await call<Replayed>(`${resource}/replay`, { method: "POST", body: body(false) });
        say(`Replayed ${number(r.messages)} ${r.messages === 1 ? "message" : "messages"} to ${user}/${to}.`);
      }}
    >
      <p>
        Appends copies of what {user}/{device} has not acknowledged to an inbox. They arrive as new messages, marked as replayed. What waits now comes by
        itself when the device connects: a replay is for a device that lost what it had, or for another device.
      </p>
      <label>
        Deliver to{" "}
        <select value={to} onChange={(e) => setTo(e.currentTarget.value)}>
          <option>{device}</option>
          {others.data?.items.filter((d) => d.device !== device).map((d) => <option key={d.device}>{d.device}</option>)}
        </select>
      </label>
      <Failure error={error} />
      <p class="preview">
        {preview
          ? preview.messages === 0
            ? "Nothing is missed: there is nothing to replay."
            : `${number(preview.messages)} ${preview.messages === 1 ? "message" : "messages"}, seq ${preview.first ?? "?"} to ${preview.last ?? "?"}`
          : error
            ? ""
            : "Counting…"}
      </p>
    </Dialog>
  );
}

function Revoke({ user, device, d, onClose, onDone }: { user: string; device: string; d?: Device; onClose: () => void; onDone: () => void }) {
  return (
    <Dialog
      title="Revoke"
      confirm="Revoke"
      danger
      onClose={onClose}
      onConfirm={async () => {
        const r = await call<{ known: boolean }>("revocations", { method: "POST", body: { kind: "device", name: `${user}/${device}` } });
        say(r.known ? `Revoked the credentials of ${user}/${device}.` : `Revoked ${user}/${device}, though no credential of that name is known here.`);
        onDone();
      }}
    >
      <p>
        Ends every credential issued for{" "}
        <b>
          {user}/{device}
        </b>{" "}
        until now. One that is issued later works.
      </p>
      <p class="preview">
        {d && d.status !== "offline" ? `It is connected${d.edge ? ` to ${d.edge}` : ""}: that connection is closed at once.` : "It is not connected now."} Its inbox stays.
      </p>
    </Dialog>
  );
}

function Forget({ user, device, d, resource, onClose }: { user: string; device: string; d?: Device; resource: string; onClose: () => void }) {
  const [refused, setRefused] = useState(0); // delayed messages are counted only there
  const waiting = Math.max(d?.unacknowledged ?? 0, refused);
  const connected = d !== undefined && d.status !== "offline";
  return (
    <Dialog
      title="Forget"
      confirm="Forget"
      danger
      blocked={connected}
      onClose={onClose}
      onConfirm={async () => {
        try {
          await call(resource, { method: "DELETE", query: waiting > 0 ? { unacknowledged: "drop" } : {} });
        } catch (e) {
          if (e instanceof ApiError) setRefused(e.unacknowledged);
          throw e;
        }
        say(`Forgot ${user}/${device}.`);
        go(href("devices"));
      }}
    >
      <p>
        Removes{" "}
        <b>
          {user}/{device}
        </b>{" "}
        with its inbox. Its credential stays good: it registers anew when it connects. Revoke it to keep it out.
      </p>
      <p class="preview">
        {connected
          ? "It is connected: it can be forgotten once it has disconnected."
          : waiting > 0
            ? `${number(waiting)} unacknowledged ${waiting === 1 ? "message goes" : "messages go"} with it.`
            : "No message is lost: nothing waits for it."}
      </p>
    </Dialog>
  );
}

interface Code {
  code: string;
  expiresAt: string;
  url: string;
}

function Credentials({ user, device }: { user: string; device: string }) {
  const [code, setCode] = useState<Code>();
  const [error, setError] = useState<ApiError>();
  const make = async () => {
    setError(undefined);
    try {
      setCode(await call<Code>(`users/${path(user)}/enrolment-codes`, { method: "POST", body: { device } }));
      say("Made an enrolment code.");
    } catch (e) {
      setError(e as ApiError);
    }
  };
  const revoked = useLoad<Page<{ kind: string; name: string; at?: string }>>("revocations");
  const mine = revoked.data?.items.filter((r) => (r.kind === "device" && r.name === `${user}/${device}`) || (r.kind === "user" && r.name === user) || r.kind === "all") ?? [];
  return (
    <section aria-labelledby="credentials">
      <div class="title">
        <h2 id="credentials">Credentials</h2>
        <button type="button" onClick={make}>
          New enrolment code
        </button>
      </div>
      <Failure error={error} retry={make} />
      {code && (
        <div class="code">
          <QR text={code.url} />
          <div>
            <p class="big mono">{code.code}</p>
            <p>
              Good once, until <Time at={code.expiresAt} />. The device scans the picture, or enrols with the code.
            </p>
            <p class="mono break">{code.url}</p>
          </div>
        </div>
      )}
      {mine.length > 0 ? (
        <ul class="plain">
          {mine.map((r) => (
            <li key={r.kind + r.name}>
              <Tag kind="warn">revoked</Tag> {r.kind === "device" ? "this device" : r.kind === "user" ? `all devices of ${user}` : "everybody"}
              {r.at && (
                <>
                  , what was issued before <Time at={r.at} />
                </>
              )}
            </li>
          ))}
        </ul>
      ) : (
        <p class="faint">No revocation concerns this device.</p>
      )}
    </section>
  );
}

/** The picture of a code, as a drawing in the page: the policy allows no data: images. */
function QR({ text }: { text: string }) {
  const { data, size } = useMemo(() => encode(text, { border: 2 }), [text]);
  const dark = data.flatMap((row, y) => row.map((on, x) => (on ? `M${x} ${y}h1v1h-1z` : ""))).join("");
  return (
    <svg class="qr" role="img" aria-label="QR code of the enrolment link" viewBox={`0 0 ${size} ${size}`} width={180} height={180} shape-rendering="crispEdges">
      <path d={dark} fill="#000" />
    </svg>
  );
}
