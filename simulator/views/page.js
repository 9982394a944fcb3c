const write = (given, digits = 4) => typeof given !== "number" ? (given === null ? "–" : String(given))
  : given !== 0 && (Math.abs(given) >= 1e7 || Math.abs(given) < 1e-3) ? String(Number(given.toPrecision(digits)).toExponential())
  : Number.isInteger(given) ? given.toLocaleString("en") : Number(given.toPrecision(digits)).toLocaleString("en", { maximumFractionDigits: 8 });
function draw(parent, kind, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, given] of Object.entries(attributes)) made.setAttribute(name, given);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}
function axis(values, from, to) {
  const found = values.filter(each => typeof each === "number" && isFinite(each));
  let low = Math.min(...found), high = Math.max(...found);
  const wide = low > 0 && high / low >= 8;
  const at = wide ? Math.log10 : each => each;
  let [a, b] = [at(low), at(high)];
  const room = (b - a) * 0.05 || Math.abs(a) * 0.05 || 1;
  a -= room; b += room;
  const place = each => from + (at(each) - a) / (b - a) * (to - from);
  const back = part => wide ? 10 ** (a + part * (b - a)) : a + part * (b - a);
  return { place, wide, floor: back(0), ticks: ticks(back(0), back(1), wide) };
}
function ticks(low, high, wide) {
  const found = [];
  if (wide) {
    const steps = Math.log10(high / low) > 2.2 ? [1] : [1, 2, 5];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
      for (const step of steps) { const each = step * 10 ** power; if (each >= low && each <= high) found.push(each); }
    return found.length > 12 ? found.filter((_, place) => place % Math.ceil(found.length / 10) === 0) : found;
  }
  const raw = (high - low) / 6, size = 10 ** Math.floor(Math.log10(raw));
  const step = size * [1, 2, 5, 10].find(each => each * size >= raw);
  for (let each = Math.ceil(low / step); each * step <= high; each++) found.push(each * step);
  return found;
}
