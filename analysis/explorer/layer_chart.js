// Cycles of every layer: computing below, waiting for DRAM stacked on it.
const LAYER_HEIGHT = 300;

function drawLayers(box, layers, chosen, pick) {
  const least = 80 + 11 * layers.length;
  const { root, width } = chart(box, "Cycles of each layer; left and right choose a layer",
    LAYER_HEIGHT, least);
  const area = { left: 62, right: width - 6, top: 10, bottom: LAYER_HEIGHT - 92 };
  const most = Math.max(1, largest(layers.map((layer) => layer.cycles)));
  const y = (value) => area.bottom - (value / most) * (area.bottom - area.top);
  const step = (area.right - area.left) / layers.length;
  root.append(stripes());
  leftAxis(root, area, y, 0, most, "cycles", 4);
  layers.forEach((layer, i) => {
    const x = area.left + i * step;
    const bar = { x: x + step * 0.12, width: step * 0.76 };
    const computing = layer.cycles - layer.stall_cycles;
    root.append(
      svg("rect", { ...bar, y: y(computing), height: area.bottom - y(computing), class: "compute" }),
      svg("rect", { ...bar, y: y(layer.cycles), height: y(computing) - y(layer.cycles), fill: "url(#stripes)" }),
      text(0, 0, shortened(layer.name, 15), {
        transform: `translate(${x + step / 2 + 3.5} ${area.bottom + 6}) rotate(-90)`, "text-anchor": "end" }));
  });
  root.append(svg("line", { x1: area.left, x2: area.right, y1: area.bottom, y2: area.bottom, class: "axis" }));
  if (chosen !== null) {
    root.append(svg("rect", { x: area.left + chosen * step, y: area.top, width: step,
      height: area.bottom - area.top, class: "over" }));
  }
  hover(root, (px) => {
    const i = Math.floor((px - area.left) / step);
    return i < 0 || i >= layers.length ? null : { tip: describeLayer(layers[i]), pick: () => pick(i) };
  });
  root.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const i = chosen === null ? 0 : Math.min(layers.length - 1, Math.max(0, chosen + by));
    box.scrollLeft = i * step - box.clientWidth / 2;
    pick(i);
  });
}

function stripes() {
  return svg("defs", {}, svg("pattern",
    { id: "stripes", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    svg("rect", { width: 5, height: 5, fill: "#e69f00" }),
    svg("rect", { width: 1.6, height: 5, fill: "#7a5200" })));
}

const shortened = (name, most) => (name.length > most ? `…${name.slice(1 - most)}` : name);

function describeLayer(layer) {
  const bits = layer.weight_bits === null ? "" : `${digits(layer.weight_bits)} bits a weight, `;
  const waiting = layer.stall_cycles ? `, ${whole(layer.stall_cycles)} of them waiting for DRAM` : "";
  return `${layer.name} (${layer.kind}): ${whole(layer.cycles)} cycles${waiting}\n`
    + `${whole(layer.macs)} MACs, ${bits}${withUnit("energy", layer.energy_pj)}\n`
    + `DRAM: ${withUnit("traffic", layer.dram_read_bits)} read, `
    + `${withUnit("traffic", layer.dram_write_bits)} written`;
}
