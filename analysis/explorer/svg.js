// Drawing: SVG elements, ticks, the frame of a chart, and what hovers over it.
function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function html(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// About `count` round numbers from low to high.
function ticks(low, high, count = 5) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
    found.push(Number((i * step).toPrecision(12)));
  }
  return found;
}

// A chart's SVG in its box, focusable; at least `least` wide, else as wide as the page.
function chart(box, label, height, least = 0) {
  const width = Math.max(least, Math.floor(box.clientWidth) || 320);
  const root = svg("svg", { width, height, role: "img", "aria-label": label, tabindex: 0 });
  const scroll = box.scrollLeft;
  const focused = box.contains(document.activeElement);
  box.replaceChildren(root);
  box.scrollLeft = scroll;
  if (focused) root.focus({ preventScroll: true });
  return { root, width, height };
}

const text = (x, y, content, attributes = {}) => svg("text", { x, y, ...attributes }, content);

// Ticks with grid lines and a turned label, at the left.
function leftAxis(root, area, at, low, high, label, count = 5) {
  for (const value of ticks(low, high, count)) {
    const y = at(value);
    root.append(svg("line", { x1: area.left, x2: area.right, y1: y, y2: y, class: "grid" }),
      text(area.left - 6, y + 4, digits(value), { "text-anchor": "end" }));
  }
  turned(root, area, label);
}

function bottomAxis(root, area, at, low, high, label) {
  for (const value of ticks(low, high, Math.max(2, Math.floor((area.right - area.left) / 90)))) {
    const x = at(value);
    root.append(svg("line", { x1: x, x2: x, y1: area.top, y2: area.bottom, class: "grid" }),
      text(x, area.bottom + 15, digits(value), { "text-anchor": "middle" }));
  }
  text_below(root, area, label);
}

const middle = (a, b) => (a + b) / 2;
function turned(root, area, label) {
  const y = middle(area.top, area.bottom);
  root.append(text(0, 0, label, { "text-anchor": "middle", transform: `translate(12 ${y}) rotate(-90)` }));
}
function text_below(root, area, label) {
  root.append(text(middle(area.left, area.right), area.bottom + 34, label, { "text-anchor": "middle" }));
}

// Shapes tell series apart as well as colours do; the fifth shape is the first again.
const COLOURS = ["light-dark(#0072b2, #3d9be0)", "#e69f00", "#009e73", "#d55e00", "#cc79a7",
  "light-dark(#56b4e9, #b6dcf5)"];
function marker(shape, x, y, r, attributes) {
  const points = [
    null,
    [[-1, -1], [1, -1], [1, 1], [-1, 1]],
    [[0, -1.3], [1.2, 0.9], [-1.2, 0.9]],
    [[0, -1.4], [1.4, 0], [0, 1.4], [-1.4, 0]],
  ][shape % 4];
  if (!points) return svg("circle", { cx: x, cy: y, r, ...attributes });
  const path = points.map(([dx, dy]) => `${(x + dx * r).toFixed(1)},${(y + dy * r).toFixed(1)}`);
  return svg("polygon", { points: path.join(" "), ...attributes });
}

const tip = html("div", { id: "tip", hidden: "" });
document.body.append(tip);
function showTip(event, content) {
  tip.hidden = content === null;
  if (content === null) return;
  tip.textContent = content;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 6))}px`;
  tip.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 18}px`;
}

// Calls find(x, y) under the pointer: {tip, pick} or null. Pressing calls pick.
function hover(root, find) {
  const at = (event) => {
    const box = root.getBoundingClientRect();
    return find(event.clientX - box.left, event.clientY - box.top);
  };
  root.addEventListener("pointermove", (event) => showTip(event, at(event)?.tip ?? null));
  root.addEventListener("pointerleave", (event) => showTip(event, null));
  root.addEventListener("click", (event) => at(event)?.pick());
}
