// Charts over designs: a map over two fields, a curve over one, and the Pareto front.
const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173",
  "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"]; // readable by the colour-blind
const MOST_DRAWN = 800; // designs beside a front, so that old phones keep up

function rgb(share) {
  const at = share * (CIVIDIS.length - 1);
  const i = Math.min(CIVIDIS.length - 2, Math.floor(at));
  const part = (colour, k) => parseInt(colour.slice(1 + 2 * k, 3 + 2 * k), 16);
  return [0, 1, 2].map((k) => part(CIVIDIS[i], k) + (at - i) * (part(CIVIDIS[i + 1], k) - part(CIVIDIS[i], k)));
}

// across, down: {label, ticks}; cell(i, j): {value, tip, pick}; here: [i, j] of the chosen design.
function drawMap(box, label, across, down, cell, here) {
  const [columns, rows] = [across.ticks.length, down.ticks.length];
  const height = 70 + Math.min(420, Math.max(160, rows * 30));
  const { root, width } = chart(box, `${label}; arrow keys choose a design`, height);
  const area = { left: 70, right: width - 10, top: 8, bottom: height - 48 };
  const cells = Array.from({ length: rows }, (_, j) => Array.from({ length: columns }, (_, i) => cell(i, j)));
  const values = cells.flat().map((c) => c.value);
  const [low, high] = [smallest(values), largest(values)];
  const [w, h] = [(area.right - area.left) / columns, (area.bottom - area.top) / rows];
  root.append(svg("image", { x: area.left, y: area.top, width: w * columns, height: h * rows,
    preserveAspectRatio: "none", style: "image-rendering: pixelated",
    href: picture(cells, (value) => (high > low ? (value - low) / (high - low) : 0.5)) }));
  categories(root, across.ticks, (i) => area.left + (i + 0.5) * w, w, (x, tick) =>
    text(x, area.bottom + 15, tick, { "text-anchor": "middle" }), 52);
  categories(root, down.ticks, (j) => area.bottom - (j + 0.5) * h, h, (y, tick) =>
    text(area.left - 6, y + 4, tick, { "text-anchor": "end" }), 14);
  text_below(root, area, across.label);
  turned(root, area, down.label);
  const mark = { x: area.left + here[0] * w, y: area.bottom - (here[1] + 1) * h, width: w, height: h };
  root.append(svg("rect", { ...mark, class: "halo" }), svg("rect", { ...mark, class: "here" }));
  hover(root, (x, y) => {
    const [i, j] = [Math.floor((x - area.left) / w), Math.floor((area.bottom - y) / h)];
    return i < 0 || j < 0 || i >= columns || j >= rows ? null : cells[j][i];
  });
  arrows(root, (dx, dy) => cells[here[1] + dy]?.[here[0] + dx]?.pick());
  return [low, high];
}

// One pixel a cell: fast for maps of any size. The first row lies at the bottom.
function picture(cells, share) {
  const canvas = html("canvas", { width: cells[0].length, height: cells.length });
  const context = canvas.getContext("2d");
  cells.forEach((row, j) => row.forEach((cell, i) => {
    context.fillStyle = `rgb(${rgb(share(cell.value)).map(Math.round).join(" ")})`;
    context.fillRect(i, cells.length - 1 - j, 1, 1);
  }));
  return canvas.toDataURL();
}

function categories(root, names, at, step, draw, room) {
  const every = Math.ceil(room / step);
  names.forEach((name, i) => i % every === 0 && root.append(draw(at(i), name)));
}

function arrows(root, move) {
  root.addEventListener("keydown", (event) => {
    const by = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!by) return;
    event.preventDefault();
    move(...by);
  });
}

// series: [{name, values}], one value a tick of `across`; pick(series, place).
function drawCurve(box, axis, across, series, here, tipOf, pick) {
  const height = 320;
  const { root, width } = chart(box, `${axis.label} over ${across.label}; arrow keys choose a design`, height);
  const area = { left: 66, right: width - 14, top: 10, bottom: height - 48 };
  const count = across.ticks.length;
  const most = largest(series.flatMap((s) => s.values)) / axis.size || 1;
  const x = (i) => middle(area.left, area.right) + (i - (count - 1) / 2) * (area.right - area.left) / count;
  const y = (value) => area.bottom - (value / axis.size / most) * (area.bottom - area.top);
  leftAxis(root, area, (v) => y(v * axis.size), 0, most, axis.label);
  categories(root, across.ticks, x, (area.right - area.left) / count, (at, tick) =>
    text(at, area.bottom + 15, tick, { "text-anchor": "middle" }), 52);
  text_below(root, area, across.label);
  series.forEach((one, s) => {
    const colour = COLOURS[s % COLOURS.length];
    root.append(svg("polyline", { points: one.values.map((v, i) => `${x(i)},${y(v)}`).join(" "),
      fill: "none", stroke: colour, "stroke-width": 2 }));
    one.values.forEach((v, i) => root.append(marker(s, x(i), y(v), 4, { fill: colour })));
  });
  root.append(svg("circle", { cx: x(here[1]), cy: y(series[here[0]].values[here[1]]), r: 9, class: "here" }));
  const points = series.flatMap((one, s) => one.values.map((v, i) => ({ x: x(i), y: y(v), s, i })));
  hover(root, (px, py) => {
    const found = nearest(points, px, py);
    return found && { tip: tipOf(found.s, found.i), pick: () => pick(found.s, found.i) };
  });
  arrows(root, (dx, dy) => {
    const [s, i] = [here[0] + dy, here[1] + dx];
    if (series[s] && i >= 0 && i < count) pick(s, i);
  });
}

function nearest(points, x, y, within = 22) {
  let [best, least] = [null, within ** 2];
  for (const point of points) {
    const distance = (point.x - x) ** 2 + (point.y - y) ** 2;
    if (distance <= least) [best, least] = [point, distance];
  }
  return best;
}

// points: [{row, series, x, y, front}] in units of the axes; here: the chosen row.
function drawPareto(box, horizontal, vertical, points, here, tipOf, pick) {
  const height = 360;
  const { root, width } = chart(box,
    `${vertical.label} over ${horizontal.label}; left and right walk along the front`, height);
  const area = { left: 66, right: width - 14, top: 12, bottom: height - 48 };
  const scale = (values, from, to) => {
    const [low, high] = [smallest(values), largest(values)];
    const room = (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
    const [a, b] = [Math.max(0, low - room), high + room];
    return { low: a, high: b, at: (v) => from + ((v - a) / (b - a)) * (to - from) };
  };
  const x = scale(points.map((p) => p.x), area.left, area.right);
  const y = scale(points.map((p) => p.y), area.bottom, area.top);
  leftAxis(root, area, y.at, y.low, y.high, vertical.label);
  bottomAxis(root, area, x.at, x.low, x.high, horizontal.label);
  const others = points.filter((p) => !p.front && p.row !== here);
  const every = Math.ceil(others.length / MOST_DRAWN) || 1;
  const shown = [...others.filter((_, i) => i % every === 0), ...points.filter((p) => p.front || p.row === here)];
  const placed = shown.map((p) => ({ ...p, x: x.at(p.x), y: y.at(p.y) }));
  for (const p of placed) {
    const colour = COLOURS[p.series % COLOURS.length];
    root.append(marker(p.series, p.x, p.y, p.front ? 5.5 : 3, p.front
      ? { fill: colour, stroke: "var(--ink)", "stroke-width": 1 } : { fill: colour, "fill-opacity": 0.4 }));
  }
  const chosen = placed.find((p) => p.row === here);
  const lines = { class: "cross" };
  root.append(
    svg("line", { x1: chosen.x, x2: chosen.x, y1: area.top, y2: area.bottom, ...lines }),
    svg("line", { x1: area.left, x2: area.right, y1: chosen.y, y2: chosen.y, ...lines }),
    svg("circle", { cx: chosen.x, cy: chosen.y, r: 10, class: "here" }));
  hover(root, (px, py) => {
    const found = nearest(placed, px, py);
    return found && { tip: tipOf(found.row), pick: () => pick(found.row) };
  });
  const { series } = points.find((p) => p.row === here);
  const walk = points.filter((p) => p.front && p.series === series)
    .sort((a, b) => a.x - b.x || a.y - b.y);
  root.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    event.preventDefault();
    const i = walk.findIndex((p) => p.row === here);
    const next = i < 0 ? 0 : i + (event.key === "ArrowRight" ? 1 : -1);
    if (walk[next]) pick(walk[next].row);
  });
  return every;
}
