// Quantities of a design: their names, and units that suit their size.
const UNITS = {
  time: [["s", 1], ["ms", 1e-3], ["µs", 1e-6]],
  energy: [["J", 1e12], ["mJ", 1e9], ["µJ", 1e6]],
  traffic: [["GB", 8e9], ["MB", 8e6], ["kB", 8e3]],
  storage: [["MiB", 2 ** 23], ["KiB", 2 ** 13]],
  share: [["%", 0.01]],
  count: [["", 1]],
};
const QUANTITIES = {
  seconds: { name: "time", unit: "time" },
  cycles: { name: "cycles", unit: "count", exact: true },
  stall_share: { name: "waiting for DRAM", unit: "share" },
  energy_pj: { name: "energy", unit: "energy" },
  dram_bits: { name: "DRAM traffic", unit: "traffic" },
  onchip_bits: { name: "on-chip memory", unit: "storage" },
  pes: { name: "PEs", unit: "count", exact: true },
  weight_bits: { name: "bits a weight", unit: "count" },
  predicted_distortion: { name: "predicted distortion", unit: "count" },
};

const digits = (value, most = 4) =>
  value !== 0 && Math.abs(value) < 1e-4
    ? value.toExponential(most - 1)
    : value.toLocaleString("en", { maximumSignificantDigits: most });
const whole = (value) => value.toLocaleString("en");

// [name, size] of the largest unit in which the value is at least 1, else of the smallest.
function unitOf(kind, value) {
  const units = UNITS[kind];
  return units.find(([, size]) => Math.abs(value) >= size) ?? units[units.length - 1];
}

function withUnit(kind, value) {
  const [unit, size] = unitOf(kind, value);
  return unit ? `${digits(value / size)} ${unit}` : digits(value);
}

function show(name, value) {
  if (value === null) return "not known";
  return QUANTITIES[name].exact ? whole(value) : withUnit(QUANTITIES[name].unit, value);
}

// Name, unit and unit's size for an axis over values of this quantity.
function axisOf(name, largest) {
  const [unit, size] = unitOf(QUANTITIES[name].unit, largest);
  return { label: unit ? `${QUANTITIES[name].name} [${unit}]` : QUANTITIES[name].name, size };
}

// Of any number of values: Math.max(...values) takes no more than an argument list does.
const largest = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
const smallest = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);

// Pressing the link saves a table; make() gives its header and rows.
function csvLink(link, make) {
  const cell = (x) => (/[",\n]/.test(x) ? `"${String(x).replaceAll('"', '""')}"` : `${x ?? ""}`);
  link.onclick = () => {
    const text = make().map((row) => row.map(cell).join(",")).join("\n");
    link.href = `data:text/csv;charset=utf-8,${encodeURIComponent(`${text}\n`)}`;
  };
}
