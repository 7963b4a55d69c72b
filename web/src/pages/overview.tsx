import { useEffect, useMemo, useState } from "preact/hooks";
import { listen } from "../api";
import { bytes, duration, number } from "../format";
import { href } from "../router";
import type { Finding, Page, Stats, Status } from "../types";
import { Chart } from "../ui/chart";
import { useLoad } from "../ui/hooks";
import { Empty, Failure, Loading, Meter, Tag, Time } from "../ui/parts";

const hour = 3600;

const throughput = [
  { label: "received", colour: "--series-1" },
  { label: "delivered", colour: "--series-2" },
  { label: "acknowledged", colour: "--series-3" },
];
const latency = [
  { label: "p50", colour: "--series-1" },
  { label: "p99", colour: "--series-2" },
  { label: "acked p99", colour: "--series-3" },
];
const online = [
  { label: "devices", colour: "--series-1" },
  { label: "connections", colour: "--series-2" },
];

export function Overview() {
  const { stats, open } = useStats();
  const status = useLoad<Status>("status", {}, 10_000);
  const doctor = useLoad<Page<Finding>>("doctor", {}, 60_000);
  const last = stats[stats.length - 1];
  const at = useMemo(() => stats.map((s) => Date.parse(s.at) / 1000), [stats]);
  const flow = useMemo(
    () => [at, stats.map((s) => s.receivedPerSecond), stats.map((s) => s.deliveredPerSecond), stats.map((s) => s.acknowledgedPerSecond)],
    [stats],
  );
  const late = useMemo(
    () => [at, stats.map((s) => s.storedToWrittenMs.p50), stats.map((s) => s.storedToWrittenMs.p99), stats.map((s) => s.storedToAckedMs.p99)],
    [stats],
  );
  const there = useMemo(() => [at, stats.map((s) => s.devicesOnline), stats.map((s) => s.connections)], [stats]);
  const s = status.data;
  // A tenant without a limit of its own has what the servers have.
  const own = last?.storageLimit ?? s?.store.limit ?? 0;
  const limit = own > 0 ? own : (s?.servers ?? []).reduce((sum, server) => sum + Math.max(0, server.storeLimit), 0);
  return (
    <>
      <div class="title">
        <h1>Overview</h1>
        <span class={`live ${open ? "on" : ""}`}>{open ? "live" : "not connected, trying again"}</span>
      </div>
      <div class="tiles">
        <Tile name="Devices online" value={number(last?.devicesOnline ?? s?.online)} note={s ? `of ${number(s.devices)}` : ""} to={href("devices", { status: "online" })} />
        <Tile name="Connections" value={number(last?.connections)} note={s ? `on ${number(s.edges.length)} ${s.edges.length === 1 ? "edge" : "edges"}` : ""} to={href("edges")} />
        <Tile name="Delivered" value={number(last?.deliveredPerSecond)} note="a second" to={href("live")} />
        <Tile
          name="Stored to written"
          value={duration(last?.storedToWrittenMs.p50)}
          note={`p99 ${duration(last?.storedToWrittenMs.p99)}`}
          to={href("live")}
        />
        <Tile name="Unacknowledged" value={number(last?.unacknowledged)} note="messages wait" to="#behind" warn={(s?.behind.length ?? 0) > 0} />
        <Tile name="Storage" value={bytes(last?.storedBytes ?? s?.store.used)} note={limit > 0 ? `of ${bytes(limit)}` : "no limit"} to="#streams">
          {last && limit > 0 && <Meter used={last.storedBytes} limit={limit} label="Storage used" />}
        </Tile>
      </div>
      <div class="charts">
        <Chart title="Messages a second" data={flow} series={throughput} format={number} />
        <Chart title="Stored to written" data={late} series={latency} format={duration} />
        <Chart title="Online" data={there} series={online} format={number} />
      </div>
      <section aria-labelledby="findings">
        <h2 id="findings">Findings</h2>
        <Failure error={doctor.error} retry={doctor.reload} />
        {!doctor.data && !doctor.error && <Loading rows={2} />}
        {doctor.data && <Findings items={doctor.data.items} />}
      </section>
      <Failure error={status.error} retry={status.reload} />
      {!s && !status.error && <Loading />}
      {s && <Installation status={s} />}
    </>
  );
}

/** The statistics of the last hour, and then one a second. */
function useStats() {
  const [stats, set] = useState<Stats[]>([]);
  const [open, setOpen] = useState(false);
  useEffect(
    () =>
      listen("live", { history: "true" }, {
        onOpen: setOpen,
        on: {
          history: (data) => set(data as Stats[]),
          stats: (data) =>
            set((before) => {
              const s = data as Stats;
              const since = Date.parse(s.at) - hour * 1000;
              const first = before.findIndex((b) => Date.parse(b.at) >= since);
              return [...(first > 0 ? before.slice(first) : before), s];
            }),
        },
      }),
    [],
  );
  return { stats, open };
}

function Tile(props: { name: string; value: string; note: string; to: string; warn?: boolean; children?: preact.ComponentChildren }) {
  return (
    <a class={`tile ${props.warn ? "warn" : ""}`} href={props.to}>
      <span class="tile-name">{props.name}</span>
      <span class="tile-value">{props.value}</span>
      <span class="tile-note">{props.note}</span>
      {props.children}
    </a>
  );
}

function Findings({ items }: { items: Finding[] }) {
  const bad = items.filter((f) => f.level !== "ok");
  if (bad.length === 0) {
    return (
      <p class="good">
        <Tag kind="ok">ok</Tag> {items.length} checks found nothing wrong.
      </p>
    );
  }
  return (
    <ul class="findings">
      {bad.map((f) => (
        <li key={f.check + f.what}>
          <Tag kind={f.level}>{f.level}</Tag>
          <div>
            <p>
              <strong>{f.check}</strong>: {f.what}
            </p>
            {f.fix && <p class="faint">{f.fix}</p>}
          </div>
        </li>
      ))}
    </ul>
  );
}

function Installation({ status }: { status: Status }) {
  return (
    <>
      <section aria-labelledby="behind">
        <h2 id="behind">What piles up</h2>
        {status.behind.length === 0 ? (
          <Empty title="No inbox is behind." />
        ) : (
          <div class="scroll">
            <table aria-label="What piles up">
              <thead>
                <tr>
                  <th>Device</th>
                  <th class="n">Unacknowledged</th>
                  <th>Oldest</th>
                </tr>
              </thead>
              <tbody>
                {status.behind.map((b) => (
                  <tr key={b.user + "/" + b.device}>
                    <td>
                      <a href={href(`devices/${encodeURIComponent(b.user)}/${encodeURIComponent(b.device)}`)}>
                        {b.user}/{b.device}
                      </a>
                    </td>
                    <td class="n">{number(b.unacknowledged)}</td>
                    <td>
                      <Time at={b.oldest} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </section>
      <section aria-labelledby="streams">
        <h2 id="streams">Streams</h2>
        <div class="scroll">
          <table aria-label="Streams">
            <thead>
              <tr>
                <th>Stream</th>
                <th class="n">Messages</th>
                <th class="n wide">Size</th>
                <th class="n">A second</th>
                <th class="wide">Last</th>
                <th>Copies</th>
              </tr>
            </thead>
            <tbody>
              {status.streams.map((s) => (
                <tr key={s.name}>
                  <td class="mono">{s.name}</td>
                  <td class="n">{number(s.messages)}</td>
                  <td class="n wide">{bytes(s.bytes)}</td>
                  <td class="n">{number(s.perSecond)}</td>
                  <td class="wide">
                    <Time at={s.last} />
                  </td>
                  <td>
                    {s.leader || s.replicas?.length ? (
                      <>
                        <Tag>{s.leader || "no leader"}</Tag>{" "}
                        {s.replicas?.map((r) => (
                          <Tag key={r.name} kind={r.offline ? "fail" : r.current ? "" : "warn"}>
                            {r.name}
                            {r.offline ? " offline" : r.lag > 0 ? ` −${number(r.lag)}` : ""}
                          </Tag>
                        ))}
                      </>
                    ) : (
                      <span class="faint">one</span>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </section>
      {status.servers && status.servers.length > 0 && (
        <section aria-labelledby="servers">
          <h2 id="servers">Servers</h2>
          <div class="scroll">
            <table aria-label="Servers">
              <thead>
                <tr>
                  <th>Server</th>
                  <th class="wide">Version</th>
                  <th class="n">CPU</th>
                  <th class="n">Memory</th>
                  <th class="n wide">Connections</th>
                  <th class="n">Store</th>
                  <th class="wide">Started</th>
                </tr>
              </thead>
              <tbody>
                {status.servers.map((s) => (
                  <tr key={s.name}>
                    <td>{s.name}</td>
                    <td class="wide">{s.version}</td>
                    <td class="n">{number(s.cpu)} %</td>
                    <td class="n">{bytes(s.memory)}</td>
                    <td class="n wide">{number(s.connections)}</td>
                    <td class="n">
                      {bytes(s.storeUsed)} of {bytes(s.storeLimit)}
                    </td>
                    <td class="wide">
                      <Time at={s.started} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </section>
      )}
    </>
  );
}
