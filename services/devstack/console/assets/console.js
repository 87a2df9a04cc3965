// Keeps the page current: every two seconds each panel is asked for, and put
// in place where it has changed. A panel's markup comes escaped from the
// console's own templates.
"use strict";

(() => {
  const every = 2000;
  const panels = [...document.querySelectorAll("[data-panel]")];
  const last = new Map();
  const offline = document.getElementById("offline");
  const pause = document.getElementById("pause");
  let paused = false, away;

  const span = (seconds) => {
    const s = Math.max(0, Math.round(seconds));
    if (s < 60) { return s + " s"; }
    if (s < 3600) { return Math.floor(s / 60) + " min " + (s % 60 && s < 600 ? (s % 60) + " s" : ""); }
    if (s < 172800) { return Math.floor(s / 3600) + " h " + Math.floor(s % 3600 / 60) + " min"; }
    return Math.floor(s / 86400) + " days";
  };

  // times writes those that are told from now.
  function times() {
    for (const t of document.querySelectorAll("time[data-rel]")) {
      const seconds = (Date.now() - Date.parse(t.dateTime)) / 1000;
      const text = t.dataset.rel === "ago" ? span(seconds) + " ago" : seconds > 0 ? "due now" : "in " + span(-seconds);
      if (!t.title) { t.title = t.textContent; }
      if (t.textContent !== text) { t.textContent = text; }
    }
  }

  // put replaces a panel and keeps what the reader has opened, scrolled to or
  // has in focus there.
  function put(panel, html) {
    const open = new Set([...panel.querySelectorAll("details[open]")].map((d) => d.id));
    const inside = [...panel.querySelectorAll("summary, [tabindex]")];
    const focus = inside.indexOf(document.activeElement);
    const owner = focus >= 0 ? document.activeElement.closest("details")?.id : undefined;
    const scrolled = [...panel.querySelectorAll(".scroll")].map((s) => [s.closest("details")?.id, s.scrollLeft, s.scrollTop]);
    panel.innerHTML = html;
    for (const d of panel.querySelectorAll("details")) { d.open = open.has(d.id); }
    panel.querySelectorAll(".scroll").forEach((s, i) => {
      if (scrolled[i] && scrolled[i][0] === s.closest("details")?.id) { [, s.scrollLeft, s.scrollTop] = scrolled[i]; }
    });
    if (focus >= 0) {
      const now = [...panel.querySelectorAll("summary, [tabindex]")];
      (owner && document.getElementById(owner)?.querySelector("summary") || now[focus])?.focus({ preventScroll: true });
    }
    times();
  }

  async function get(path) {
    const r = await fetch(path, { cache: "no-cache" });
    if (!r.ok) { throw new Error(path + " answers " + r.status); }
    return r;
  }

  async function look() {
    try {
      await Promise.all(panels.map(async (panel) => {
        const html = await (await get("/panel/" + panel.dataset.panel)).text();
        if (last.get(panel) !== html) { last.set(panel, html); put(panel, html); }
      }));
      chart.show(await (await get("/value.json")).json());
      away = undefined;
      offline.hidden = true;
    } catch {
      away ??= new Date();
      offline.textContent = "The suite doesn’t answer since " + away.toLocaleTimeString() + "; what is shown is of before.";
      offline.hidden = false;
    }
  }

  async function follow() {
    if (!paused && !document.hidden) { await look(); }
    setTimeout(follow, every);
  }

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Paused" : "Pause";
  });
  const traces = [...document.querySelectorAll("details.trace")];
  const widest = traces.reduce((a, b) => (a && +a.dataset.services >= +b.dataset.services ? a : b), undefined);
  if (widest) { widest.open = true; }
  setInterval(times, 1000);
  times();
  follow();
})();
