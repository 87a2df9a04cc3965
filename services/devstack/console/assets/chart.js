// The chart of the value over time, for keyboard and pointer.
"use strict";

const chart = (() => {
  const container = document.getElementById("chart");
  if (!container) { return { show() {} }; } // nobody's portfolio is shown
  const readout = document.getElementById("readout");
  const axisNote = document.getElementById("axis");
  const parts = [container, readout, axisNote, document.getElementById("ranges"),
    document.getElementById("chart-help")];
  let plot, rows = [];
  let range = "daily", series = { daily: [], hourly: [] }, drawnSeries = "";

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const pointTime = (seconds) => {
    const iso = new Date(seconds * 1000).toISOString();
    return range === "daily" ? iso.slice(0, 10) : iso.slice(0, 16).replace("T", " ") + " UTC";
  };
  const tickLabel = (seconds) => {
    const iso = new Date(seconds * 1000).toISOString();
    return seconds % 86400 ? iso.slice(11, 16) : iso.slice(5, 10);
  };
  const showPoint = (i) => {
    readout.textContent = i == null || !rows[i] ? "" : pointTime(rows[i][0]) + ": " + rows[i][2];
  };

  function draw() {
    rows = series[range];
    if (plot) { plot.destroy(); plot = undefined; }
    container.setAttribute("aria-label", rows.length === 0 ? "Value over time: no values yet" :
      "Value over time: " + rows.length + " points, from " + rows[0][2] + " at " + pointTime(rows[0][0]) +
      " to " + rows[rows.length - 1][2] + " at " + pointTime(rows[rows.length - 1][0]));
    readout.textContent = axisNote.textContent = "";
    for (const part of parts) { part.hidden = series.daily.length === 0; }
    if (rows.length === 0) { return; }
    const values = rows.map((r) => Number(r[1]));
    const [least, most] = [Math.min(...values), Math.max(...values)];
    // An area stands for an amount, so it is filled only where the axis begins at zero. That hides the changes of a
    // value that moves little: then only a line is drawn, and the axis says where it begins.
    const fromZero = least <= most / 2;
    container.dataset.axis = fromZero ? "zero" : "cut";
    const line = colour("--line"), quiet = colour("--quiet");
    const axis = { stroke: quiet, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    const compact = new Intl.NumberFormat("en",
      { notation: "compact", maximumFractionDigits: 1, minimumFractionDigits: 1 });
    plot = new uPlot({
      width: container.clientWidth, height: container.clientHeight,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: { y: false, drag: { x: false, y: false } },
      legend: { show: false },
      scales: {
        ...(rows.length > 1 ? {} : { x: { range: (_, lo) => [lo - 43200, lo + 43200] } }),
        ...(fromZero ? { y: { range: (_, lo, hi) => [0, hi * 1.05 || 1] } } : {}),
      },
      axes: [
        { ...axis, values: (_, ticks) => ticks.map(tickLabel) },
        { ...axis, size: 64, values: (_, ticks) => ticks.map((v) => compact.format(v)) },
      ],
      series: [{}, {
        stroke: colour("--accent"), fill: fromZero ? colour("--accent-soft") : undefined, width: 2,
        points: { show: rows.length < 40 },
      }],
      hooks: { setCursor: [(u) => showPoint(u.cursor.idx)] },
    }, [rows.map((r) => r[0]), values], container);
    if (!fromZero) {
      axisNote.textContent = "The axis begins at " + compact.format(plot.scales.y.min) + ", not at zero.";
    }
  }

  function move(to) {
    const i = Math.max(0, Math.min(rows.length - 1, to));
    plot.setCursor({ left: plot.valToPos(rows[i][0], "x"), top: 10 });
    showPoint(i);
  }

  container.addEventListener("keydown", (e) => {
    if (!plot) { return; }
    const at = plot.cursor.idx ?? rows.length;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: rows.length - 1 }[e.key];
    if (to === undefined) { return; }
    e.preventDefault();
    move(to);
  });
  for (const b of document.querySelectorAll("[data-range]")) {
    b.addEventListener("click", () => {
      range = b.dataset.range;
      for (const other of document.querySelectorAll("[data-range]")) {
        other.setAttribute("aria-pressed", String(other === b));
      }
      draw();
    });
  }
  new ResizeObserver(() => {
    if (plot && container.clientWidth !== plot.width) {
      plot.setSize({ width: container.clientWidth, height: container.clientHeight });
    }
  }).observe(container);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  return {
    // show draws a series, unless it is already drawn.
    show(next) {
      const text = JSON.stringify(next);
      if (text === drawnSeries) { return; }
      drawnSeries = text;
      series = next;
      draw();
    },
  };
})();
