// What is shown: a space (accelerator), an allocation and a design; every change draws anew.
const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const METRICS = ["seconds", "energy_pj", "stall_share", "dram_bits"];

for (const space of data.spaces) {
  const c = space.columns;
  c.dram_bits = c.dram_read_bits.map((bits, i) => bits + c.dram_write_bits[i]);
  c.stall_share = c.stall_cycles.map((stall, i) => stall / Math.max(1, c.cycles[i]));
  space.front = new Set(space.pareto);
  space.moving = space.axes.map((_, i) => i).filter((i) => space.axes[i].ticks.length > 1);
  space.at = new Map(space.designs.map((design, i) => [design.join(), i]));
}

const state = { space: 0, allocation: 0, design: 0, layer: null, metric: "seconds", vertical: "energy_pj",
  across: 0, down: 1, pinned: null };
const space = () => data.spaces[state.space];
const row = () => rowOf(state.allocation, state.design);
const rowOf = (allocation, design) => allocation * space().designs.length + design;
const value = (name, r = row()) => space().columns[name][r];

// The row's layers in the order in which they run; null if the page does not hold them.
function layersOf(r) {
  const { names, rows, pools } = space().detail;
  const found = rows[r];
  if (!found) return null;
  const lists = Object.fromEntries(names.map((name, i) => [name, pools[name][found[i]]]));
  return lists.order.map((place, i) => ({
    name: data.layers[place][0], kind: data.layers[place][1], macs: data.layers[place][2],
    weight_bits: lists.weight_bits[place], cycles: lists.cycles[i], stall_cycles: lists.stall_cycles[i],
    dram_read_bits: lists.dram_read_bits[i], dram_write_bits: lists.dram_write_bits[i],
    energy_pj: lists.energy_pj[i],
  }));
}

function choose(r) {
  state.design = r % space().designs.length;
  state.allocation = Math.floor(r / space().designs.length);
  update();
}

function fields(r) {
  const design = space().designs[r % space().designs.length];
  return space().axes.map((axis, i) => `${axis.name} ${axis.shown[design[i]]}`);
}

function describe(r) {
  const allocation = space().allocations[Math.floor(r / space().designs.length)];
  return [allocation, ...fields(r), `${show("seconds", value("seconds", r))}, `
    + `${show("energy_pj", value("energy_pj", r))}, ${show("onchip_bits", value("onchip_bits", r))} on chip`,
    `fits: ${value("short_of", r) ? `no, short of ${value("short_of", r)}` : "yes"}`].join("\n");
}

// A pop-up list under a name, bound to state[key].
function picker(name, key, options, after = update) {
  const list = html("select", { name: key });
  options.forEach(([option, label]) => list.append(html("option", { value: option }, label)));
  list.value = state[key];
  list.addEventListener("change", () => {
    state[key] = isNaN(list.value) ? list.value : Number(list.value);
    after();
  });
  return html("label", {}, html("span", { class: "name" }, name), " ", list);
}

function slider(name, position, count, text, move) {
  const input = html("input", { type: "range", min: 0, max: count - 1, step: 1, name });
  input.value = position;
  input.setAttribute("aria-valuetext", text);
  const output = html("output", {}, text);
  input.addEventListener("input", () => move(Number(input.value)));
  return { label: html("label", {}, html("span", { class: "name" }, name, output), input), input, output };
}

let refreshControls = () => {};
function buildControls() {
  const here = space();
  const controls = [];
  if (data.spaces.length > 1) {
    controls.push(picker("accelerator", "space", data.spaces.map((s, i) => [i, s.name]), enterSpace));
  }
  controls.push(picker("widths", "allocation", here.allocations.map((label, i) => [i, label])));
  const sliders = [];
  if (here.full) {
    here.axes.forEach((axis, i) => {
      if (axis.ticks.length < 2) {
        controls.push(html("div", { class: "fixed" }, `${axis.name}: ${axis.shown[0]}`));
        return;
      }
      const made = slider(axis.name, 0, axis.ticks.length, "", (position) => {
        const design = [...space().designs[state.design]];
        design[i] = position;
        state.design = space().at.get(design.join());
        update();
      });
      sliders.push([made, () => [here.designs[state.design][i], axis.shown[here.designs[state.design][i]]]]);
    });
  } else { // drawn designs: not every combination was simulated
    const made = slider("design", 0, here.designs.length, "", (position) => {
      state.design = position;
      update();
    });
    sliders.push([made, () => [state.design, `${state.design + 1} of ${here.designs.length}: ${fields(row()).join(", ")}`]]);
  }
  controls.push(...sliders.map(([made]) => made.label));
  by("controls").replaceChildren(...controls);
  refreshControls = () => {
    by("controls").querySelector("[name=allocation]").value = state.allocation;
    for (const [made, now] of sliders) {
      const [position, text] = now();
      made.input.value = position;
      made.input.setAttribute("aria-valuetext", text);
      made.output.textContent = text;
    }
  };
}

function buildPickers() {
  const here = space();
  const metrics = METRICS.map((name) => [name, QUANTITIES[name].name]);
  const pickers = [picker("show", "metric", metrics, drawDesigns)];
  if (here.full && here.moving.length > 2) {
    const names = here.moving.map((i) => [i, here.axes[i].name]);
    const other = (key, against) => () => {
      if (state[key] === state[against]) state[against] = here.moving.find((i) => i !== state[key]);
      buildPickers();
      drawDesigns();
    };
    pickers.push(picker("across", "across", names, other("across", "down")),
      picker("up", "down", names, other("down", "across")));
  }
  by("map").querySelector(".pickers").replaceChildren(...pickers);
  const verticals = ["energy_pj", "onchip_bits", "dram_bits"].map((name) => [name, QUANTITIES[name].name]);
  if (here.columns.predicted_distortion.some((d) => d !== null)) {
    verticals.push(["predicted_distortion", QUANTITIES.predicted_distortion.name]);
  } else if (state.vertical === "predicted_distortion") state.vertical = "energy_pj";
  by("pareto").querySelector(".pickers").replaceChildren(picker("over time", "vertical", verticals, drawFront));
  const legend = here.allocations.flatMap((label, i) => {
    const key = svg("svg", { viewBox: "-7 -7 14 14" });
    key.append(marker(i, 0, 0, 5, { fill: COLOURS[i % COLOURS.length] }));
    return [key, label];
  });
  by("pareto").querySelector(".legend").replaceChildren(...legend);
}

function enterSpace() {
  const here = space();
  state.allocation = Math.min(state.allocation, here.allocations.length - 1);
  const best = here.best.find(([, r]) => Math.floor(r / here.designs.length) === state.allocation);
  [state.design, state.layer, state.pinned] = [best[1] % here.designs.length, null, null];
  const longest = [...here.moving].sort((a, b) => here.axes[b].ticks.length - here.axes[a].ticks.length);
  [state.across, state.down] = [longest[0] ?? 0, longest[1] ?? 0];
  buildControls();
  buildPickers();
  buildBest();
  saveDesigns();
  update();
}

function drawNumbers() {
  const names = ["seconds", "cycles", "stall_share", "energy_pj", "dram_bits", "onchip_bits", "pes", "weight_bits",
    "predicted_distortion"].filter((name) => space().columns[name][row()] !== null);
  const card = (what, name, shown, more, raw) => html("div", {},
    html("span", { class: "what" }, what), html("br"),
    html("span", { class: "value", "data-name": name, "data-value": raw }, shown),
    html("div", { class: "more" }, more));
  const cards = names.map((name) => card(QUANTITIES[name].name, name, show(name, value(name)), ratio(name), value(name)));
  const short = value("short_of");
  const fits = card("fits on chip", "fits", short ? "no" : "yes", short ? `short of ${short}` : "every layer", short);
  fits.querySelector(".value").classList.toggle("short", Boolean(short));
  const front = space().front.has(row());
  cards.push(fits, card("Pareto front", "front", front ? "on it" : "not on it", "", front));
  by("numbers").replaceChildren(...cards);
  by("pin").setAttribute("aria-pressed", state.pinned !== null);
  by("pinned").textContent = state.pinned === null ? ""
    : `compared with: ${describe(state.pinned).split("\n").slice(0, -2).join(", ")}`;
}

function ratio(name) {
  if (state.pinned === null) return "";
  const base = value(name, state.pinned);
  return base ? `${digits(value(name) / base, 3)} × the pinned` : "";
}

function drawLayersHere() {
  const layers = layersOf(row());
  const figure = by("layers");
  const kept = Object.keys(space().detail.rows).length;
  const every = space().columns.cycles.length;
  figure.querySelector(".note").textContent = `Cycles from the end of the layer before to the end of this one. `
    + (kept === every ? "" : `Of ${whole(kept)} of ${whole(every)} simulations: the best, the Pareto fronts, and `
    + `others at equal distances. `) + "Point at a layer, or use the arrow keys, for its numbers.";
  const readout = figure.querySelector(".readout");
  by("save-layers").hidden = !layers;
  if (!layers) {
    figure.querySelector(".chart").replaceChildren();
    readout.textContent = "The layers of this design are not in the page; chipfit simulate gives them.";
    return;
  }
  if (state.layer !== null && state.layer >= layers.length) state.layer = null;
  drawLayers(figure.querySelector(".chart"), layers, state.layer, (i) => {
    state.layer = i;
    drawLayersHere();
  });
  const slowest = layers.reduce((a, b) => (b.cycles > a.cycles ? b : a));
  readout.textContent = (state.layer === null ? `slowest: ${describeLayer(slowest)}`
    : describeLayer(layers[state.layer])).replaceAll("\n", "; ");
  csvLink(by("save-layers"), () => [Object.keys(layers[0]), ...layers.map((layer) => Object.values(layer))]);
}

function drawDesigns() {
  const here = space();
  const figure = by("map");
  const box = figure.querySelector(".chart");
  const scale = figure.querySelector(".scale");
  const design = here.designs[state.design];
  const metric = state.metric;
  const axis = axisOf(metric, largest(here.columns[metric]));
  scale.hidden = true;
  figure.hidden = !here.full || here.moving.length === 0;
  figure.previousElementSibling.hidden = figure.hidden;
  if (figure.hidden) return;
  const note = figure.querySelector(".note");
  const moved = (changes) => {
    const other = [...design];
    for (const [i, position] of changes) other[i] = position;
    return here.at.get(other.join());
  };
  if (here.moving.length === 1) {
    const [i] = here.moving;
    const designs = here.axes[i].ticks.map((_, k) => moved([[i, k]]));
    const series = here.allocations.map((name, a) => ({ name, values: designs.map((d) => value(metric, rowOf(a, d))) }));
    drawCurve(box, axis, here.axes[i], series, [state.allocation, design[i]],
      (a, k) => describe(rowOf(a, designs[k])), (a, k) => choose(rowOf(a, designs[k])));
    note.textContent = "Every design; lines only join them. The ring is the chosen one; press another to choose it.";
    return;
  }
  const [i, j] = [state.across, state.down];
  const cell = (a, b) => {
    const r = rowOf(state.allocation, moved([[i, a], [j, b]]));
    return { value: value(metric, r), tip: describe(r), pick: () => choose(r) };
  };
  const [low, high] = drawMap(box, axis.label, here.axes[i], here.axes[j], cell, [design[i], design[j]]);
  scale.hidden = false;
  scale.replaceChildren(show(metric, low),
    html("i", { style: `background: linear-gradient(90deg, ${CIVIDIS.join(",")})` }), show(metric, high));
  const held = here.moving.filter((k) => k !== i && k !== j).map((k) => `${here.axes[k].name} ${here.axes[k].shown[design[k]]}`);
  note.textContent = `${QUANTITIES[metric].name} with '${here.allocations[state.allocation]}'`
    + `${held.length ? ` at ${held.join(", ")}` : ""}. The frame is the chosen design; press another to choose it.`;
}

const rowsOf = () => space().columns.cycles.map((_, r) => r);

function drawFront() {
  const here = space();
  const most = (name) => largest(here.columns[name].filter((v) => v !== null));
  const [x, y] = [axisOf("seconds", most("seconds")), axisOf(state.vertical, most(state.vertical))];
  const points = rowsOf().filter((r) => value(state.vertical, r) !== null || r === row()).map((r) => ({ row: r,
    series: Math.floor(r / here.designs.length), x: value("seconds", r) / x.size,
    y: (value(state.vertical, r) ?? 0) / y.size, front: here.front.has(r) }));
  const every = drawPareto(by("pareto").querySelector(".chart"), x, y, points, row(), describe, choose);
  by("pareto").querySelector(".note").textContent = "Large and outlined: on the Pareto front of its widths over time, "
    + `energy${here.axes.some((a) => /(^|,)array\./.test(a.name)) ? ", PEs" : ""} and on-chip bits (and predicted distortion where widths differ by design). `
    + `${every > 1 ? `Of the other designs every ${every}th is drawn. ` : ""}The ring is the chosen design; press another to choose it.`;
}

function buildBest() {
  const here = space();
  const numeric = [...here.axes.map((axis) => axis.name), "time", "energy", "on chip"];
  const titles = ["", "widths", "which", ...numeric, "short of"];
  const table = by("best");
  table.tHead.replaceChildren(html("tr", {}, ...titles.map((title) =>
    html("th", { scope: "col", ...(numeric.includes(title) && { class: "n" }) }, title ? html("button", { type: "button" }, title) : ""))));
  table.tBodies[0].replaceChildren(...here.best.map(([what, r]) => {
    const design = here.designs[r % here.designs.length];
    const cell = (content, key) =>
      html("td", key === undefined ? {} : { class: "n", "data-key": key }, content);
    const button = html("button", { type: "button" }, "show");
    button.addEventListener("click", () => {
      choose(r);
      by("controls").scrollIntoView({ block: "nearest" });
    });
    return html("tr", {}, html("td", {}, button), cell(here.allocations[Math.floor(r / here.designs.length)]), cell(what),
      ...here.axes.map((axis, i) => cell(axis.shown[design[i]], design[i])),
      ...["seconds", "energy_pj", "onchip_bits"].map((name) => cell(show(name, value(name, r)), value(name, r))),
      cell(value("short_of", r) || "–"));
  }));
  makeSortable(table);
}

function saveDesigns() {
  const here = space();
  const names = Object.keys(here.columns);
  const header = ["accelerator", "allocation", ...here.axes.map((axis) => axis.name), ...names, "pareto"];
  csvLink(by("save-designs"), () => [header, ...rowsOf().map((r) => {
    const design = here.designs[r % here.designs.length];
    return [here.name, here.allocations[Math.floor(r / here.designs.length)],
      ...here.axes.map((axis, i) => axis.shown[design[i]]), ...names.map((name) => value(name, r)), here.front.has(r)];
  })]);
}

function update() {
  refreshControls();
  drawNumbers();
  draw();
}

function draw() {
  drawLayersHere();
  drawDesigns();
  drawFront();
}

by("pin").addEventListener("click", () => {
  state.pinned = state.pinned === null ? row() : null;
  by("pin").textContent = state.pinned === null ? "compare others with this design" : "stop comparing";
  drawNumbers();
});
by("controls").addEventListener("submit", (event) => event.preventDefault());
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== width) draw();
  width = innerWidth;
});
enterSpace();
