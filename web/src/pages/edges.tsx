import { useState } from "preact/hooks";
import { ApiError, call, path } from "../api";
import { number } from "../format";
import type { Edge, Page } from "../types";
import { useLoad } from "../ui/hooks";
import { Dialog, Empty, Failure, Loading, Tag, Time } from "../ui/parts";
import { say } from "../ui/status";

/** The edges, what each holds, and how far a drain has come. */
export function Edges() {
  const [began, setBegan] = useState<Record<string, number>>({});
  const draining = Object.keys(began).length > 0;
  const list = useLoad<Page<Edge>>("edges", {}, draining ? 1000 : 5000);
  const [asking, ask] = useState<Edge>();
  const [error, setError] = useState<ApiError>();
  const edges = list.data?.items ?? [];
  const total = edges.reduce((n, e) => n + e.devices, 0);
  const resume = async (e: Edge) => {
    setError(undefined);
    try {
      await call(`edges/${path(e.id)}/drain`, { method: "DELETE" });
      setBegan(({ [e.id]: _, ...rest }) => rest);
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
            {number(edges.length)} {edges.length === 1 ? "edge" : "edges"}, {number(total)} devices
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
                const from = began[e.id];
                const isDraining = e.draining ?? from !== undefined;
                return (
                  <tr key={e.id}>
                    <td class="name" id={"edge-" + e.id}>
                      {e.name} {isDraining && <Tag kind="warn">draining</Tag>}
                    </td>
                    <td class="n">{number(e.devices)}</td>
                    <td class="share">
                      {from !== undefined ? (
                        <progress max={Math.max(1, from)} value={Math.max(0, from - e.devices)} aria-label={`Drained of ${e.name}`} />
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
                      {isDraining ? (
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
          danger={edges.length < 2}
          onClose={() => ask(undefined)}
          onConfirm={async () => {
            await call(`edges/${path(asking.id)}/drain`, { method: "POST", body: edges.length < 2 ? { force: true } : {} });
            setBegan((b) => ({ ...b, [asking.id]: asking.devices }));
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
            {edges.length < 2 ? "It is the only edge: its devices have nowhere to go until it takes devices again." : `${number(edges.length - 1)} other ${edges.length === 2 ? "edge takes" : "edges take"} them.`}
          </p>
        </Dialog>
      )}
    </>
  );
}
