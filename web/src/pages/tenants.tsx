import { bytes, number } from "../format";
import { href } from "../router";
import type { Page, Tenant } from "../types";
import { useLoad } from "../ui/hooks";
import { Failure, Loading, Meter, Tag } from "../ui/parts";

/** What a tenant may store: its own limit, or its part of what the others leave; 0 for no limit. */
const room = (t: Tenant) => t.limits?.storageBytes || t.share || 0;

/** The tenants of the installation, and what each has of its limits. */
export function Tenants() {
  const list = useLoad<Page<Tenant>>("tenants", {}, 10_000);
  return (
    <>
      <div class="title">
        <h1>Tenants</h1>
      </div>
      <Failure error={list.error} retry={list.reload} />
      {!list.data && !list.error && <Loading rows={3} />}
      {list.data && (
        <div class="scroll">
          <table aria-label="Tenants">
            <thead>
              <tr>
                <th>Tenant</th>
                <th>State</th>
                <th class="n">Devices</th>
                <th class="n">Stored</th>
                <th class="share wide">Share</th>
                <th class="n wide">Consumers</th>
              </tr>
            </thead>
            <tbody>
              {list.data.items.map((t) => (
                <tr key={t.name}>
                  <td class="name">
                    <a href={href("", { tenant: t.name })}>{t.name}</a>
                  </td>
                  <td>{t.served ? <Tag kind="ok">served</Tag> : <Tag kind="warn">not served</Tag>}</td>
                  <td class="n">
                    {number(t.devices)}
                    {t.limits?.devices ? <span class="faint"> of {number(t.limits.devices)}</span> : null}
                  </td>
                  <td class="n">
                    {bytes(t.stored)}
                    {room(t) ? <span class="faint"> of {bytes(room(t))}</span> : null}
                  </td>
                  <td class="share wide">{room(t) ? <Meter used={t.stored} limit={room(t)} label={`Storage of ${t.name}`} /> : <span class="faint">no limit</span>}</td>
                  <td class="n wide">
                    {number(t.consumers)}
                    {t.limits?.consumers ? <span class="faint"> of {number(t.limits.consumers)}</span> : null}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <p class="faint">
        Add one with <code>rccs tenants add NAME</code>.
      </p>
    </>
  );
}
