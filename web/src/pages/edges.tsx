import { useEffect, useState } from "preact/hooks";
import { ApiError, call, path } from "../api";
import { number } from "../format";
import type { Edge, Page } from "../types";
import { useLoad } from "../ui/hooks";
import { Dialog, Empty, Failure, Loading, Tag, Time, Words } from "../ui/parts";
import { say } from "../ui/status";

/** An edge that drains: how many devices it had, and whether the server says so yet. */
interface Drain {
  from: number;
  told: boolean;
}

/** The edges, what each holds, and how far a drain has come. */
export function Edges() {
  const [drains, setDrains] = useState<Record<string, Drain>>({});
  const draining = Object.keys(drains).length > 0;
  const list = useLoad<Page<Edge>>("edges", {}, draining ? 1000 : 5000);
  const [asking, ask] = useState<Edge>();
  const [error, setError] = useState<ApiError>();
  const edges = list.data?.items ?? [];
  const total = edges.reduce((n, e) => n + e.devices, 0);
  const others = edges.filter((e) => e.id !== asking?.id && !drains[e.id]).length;
  useEffect(() => {
    setDrains((before) => {
      const now: Record<string, Drain> = {};
      for (const e of edges) {
        const was = before[e.id];
        if (e.draining) now[e.id] = { from: Math.max(was?.from ?? 0, e.devices), told: true };
        else if (was && !was.told) now[e.id] = was;
      }
      return now;
    });
  }, [list.data]);
  const resume = async (e: Edge) => {
    setError(undefined);
    try {
      await call(`edges/${path(e.id)}/drain`, { method: "DELETE" });
      setDrains(({ [e.id]: _, ...rest }) => rest);
      say(`Edge ${e.name} takes devices again.`);
      list.reload();
    } catch (err) {
      setError(err as ApiError);
    }
  };
  return (
    <>
      <div class="title">
        <h1>Edges</h1>
        {edges.length > 0 && (
          <span class="faint">
            {number(edges.length)} {edges.length === 1 ? "edge" : "edges"}, {number(total)} {total === 1 ? "device" : "devices"}
          </span>
        )}
      </div>
      <Failure error={list.error ?? error} retry={list.reload} />
      {!list.data && !list.error && <Loading rows={3} />}
      {list.data && edges.length === 0 && (
        <Empty title="No edge runs.">
          <p>
            Start one beside the server: <code>rccs edge --server nats://HOST:4222 --creds edge.creds</code>
          </p>
        </Empty>
      )}
      {edges.length > 0 && (
        <div class="scroll">
          <table aria-label="Edges">
            <thead>
              <tr>
                <th>Edge</th>
                <th class="n">Devices</th>
                <th class="share">Share</th>
                <th class="wide">Address</th>
                <th class="wide">Version</th>
                <th class="wide">Started</th>
                <th>
                  <span class="hidden">Act</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {edges.map((e) => {
                const drain = drains[e.id];
                return (
                  <tr key={e.id}>
                    <td class="name" id={"edge-" + e.id}>
                      <Words text={e.name} /> {drain && <Tag kind="warn">draining</Tag>}
                    </td>
                    <td class="n">{number(e.devices)}</td>
                    <td class="share">
                      {drain ? (
                        <progress max={Math.max(1, drain.from)} value={drain.from ? Math.max(0, drain.from - e.devices) : 1} aria-label={`Drained of ${e.name}`} />
                      ) : (
                        <meter min={0} max={Math.max(1, total)} value={e.devices} aria-label={`Share of ${e.name}`} />
                      )}
                    </td>
                    <td class="wide mono">{e.address}</td>
                    <td class="wide">{e.version}</td>
                    <td class="wide">
                      <Time at={e.started} />
                    </td>
                    <td class="n">
                      {drain ? (
                        <button type="button" onClick={() => resume(e)}>
                          Take devices again
                        </button>
                      ) : (
                        <button type="button" aria-describedby={"edge-" + e.id} onClick={() => ask(e)}>
                          Drain
                        </button>
                      )}
                    </td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
      {asking && (
        <Dialog
          title="Drain"
          confirm="Drain"
          danger={others === 0}
          onClose={() => ask(undefined)}
          onConfirm={async () => {
            await call(`edges/${path(asking.id)}/drain`, { method: "POST", body: others === 0 ? { force: true } : {} });
            setDrains((before) => ({ ...before, [asking.id]: { from: asking.devices, told: false } }));
            say(`Edge ${asking.name} drains: its devices connect elsewhere.`);
            list.reload();
          }}
        >
          <p>
            Lets <b>{asking.name}</b> take no more devices and closes its connections, some each second. The devices come back at once, to another edge.
            Nothing is lost.
          </p>
          <p class="preview">
            {number(asking.devices)} {asking.devices === 1 ? "device is" : "devices are"} connected to it.{" "}
            {whoTakes(edges.length, others)}
          </p>
        </Dialog>
      )}
    </>
  );
}

/** What becomes of the devices of one of so many edges, of which others take devices. */
function whoTakes(edges: number, others: number): string {
  if (edges < 2) return "It is the only edge: its devices have nowhere to go until it takes devices again.";
  if (others === 0) return "All other edges drain too: its devices have nowhere to go until one takes devices again.";
  return `${number(others)} other ${others === 1 ? "edge takes" : "edges take"} them.`;
}
