import { useState } from "preact/hooks";
import { ApiError, call } from "../api";
import type { AuditRecord, Page } from "../types";
import { useLoad } from "../ui/hooks";
import { Empty, Failure, Loading, Search, Tag, Time, Words } from "../ui/parts";

/** Who did what, newest first. */
export function Audit() {
  const first = useLoad<Page<AuditRecord>>("audit", { limit: 200 });
  const [more, setMore] = useState<{ items: AuditRecord[]; next?: string }>();
  const [failed, setFailed] = useState<ApiError>();
  const [filter, setFilter] = useState("");
  const next = more ? more.next : first.data?.next;
  const loadMore = async () => {
    try {
      const page = await call<Page<AuditRecord>>("audit", { query: { limit: 200, after: next } });
      setMore({ items: [...(more?.items ?? []), ...page.items], next: page.next });
    } catch (e) {
      setFailed(e as ApiError);
    }
  };
  const parts = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const items = [...(first.data?.items ?? []), ...(more?.items ?? [])].filter((r) => {
    const text = [r.action, r.who, r.from, r.target, r.detail, r.result, r.why].join(" ").toLowerCase();
    return parts.every((p) => text.includes(p));
  });
  return (
    <>
      <div class="title">
        <h1>Audit</h1>
      </div>
      <div class="bar-row">
        <Search label="Filter the audit" value={filter} onInput={setFilter} placeholder="Filter: act, who, target" />
      </div>
      <Failure error={first.error ?? failed} retry={first.reload} />
      {!first.data && !first.error && <Loading rows={8} />}
      {first.data && (
        <div class="scroll">
          <table aria-label="Audit">
            <thead>
              <tr>
                <th>When</th>
                <th>Act</th>
                <th>Target</th>
                <th class="wide">Result</th>
                <th>Who</th>
                <th class="wide">From</th>
                <th class="wide">Detail</th>
              </tr>
            </thead>
            <tbody>
              {items.map((r) => (
                <tr key={r.seq}>
                  <td>
                    <Time at={r.at} />
                  </td>
                  <td>
                    {r.action} {r.result && r.result !== "done" && (
                      <span class="narrow below">
                        <Tag kind={resultKind(r.result)}>{r.result}</Tag>
                      </span>
                    )}
                  </td>
                  <td class="name">{r.target ? <Words text={r.target} /> : <span class="faint">all</span>}</td>
                  <td class="wide" title={r.why}>
                    <Tag kind={resultKind(r.result)}>{r.result ?? "done"}</Tag>
                    {r.why && <span class="faint why">{r.why}</span>}
                  </td>
                  <td class="name">
                    <Words text={r.who} />
                  </td>
                  <td class="wide">{r.from}</td>
                  <td class="wide name">{r.detail}</td>
                </tr>
              ))}
            </tbody>
          </table>
          {items.length === 0 && (
            <Empty title={filter ? "No record fits the filter." : "Nothing is recorded yet."}>
              {!filter && <p>Revocations, replays, purges, drains, backups and reads of other people's messages are recorded here for a year.</p>}
            </Empty>
          )}
        </div>
      )}
      {next && (
        <button type="button" class="more" onClick={loadMore}>
          Show more
        </button>
      )}
    </>
  );
}

function resultKind(result?: string): string {
  return result === "refused" ? "warn" : result === "failed" ? "fail" : "";
}
