// A chart with logarithmic axes, in one file of SVG that follows the reader's light or dark theme.

const WIDTH = 760;
const HEIGHT = 420;
const LEFT = 76;
const RIGHT = 40;
const TOP = 136;
const BOTTOM = 52;

const STYLE =
  'text{font:12px system-ui,sans-serif;fill:#333}.title{font-size:15px;font-weight:600}.paper{fill:#fff}' +
  '.grid{stroke:#ddd}.end{text-anchor:end}.middle{text-anchor:middle}polyline,.key{fill:none;stroke-width:2}' +
  '.c0{stroke:#0b62c4}.c1{stroke:#c2410c}.c2{stroke:#15803d}.c3{stroke:#7e22ce}.c4{stroke:#a16207}' +
  '.c1,.c3{stroke-dasharray:6 3}@media(prefers-color-scheme:dark){text{fill:#ddd}.paper{fill:#16181d}' +
  '.grid{stroke:#3a3d45}.c0{stroke:#6cb2ff}.c1{stroke:#ffa36c}.c2{stroke:#6fdc8c}.c3{stroke:#d4a5ff}' +
  '.c4{stroke:#f2cc60}}';

/** Powers of ten around all values. */
function axis(values, from, to) {
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
  return {
    powers: Array.from({ length: high - low + 1 }, (_, n) => 10 ** (low + n)),
    at: (value) => from + ((to - from) * (Math.log10(value) - low)) / (high - low),
  };
}

/** The chart of `curves`, each with a title and its points. */
export function chart({ title, x: xTitle, y: unit, curves }) {
  const points = curves.flatMap((curve) => curve.points);
  const x = axis(points.map(([size]) => size), LEFT, WIDTH - RIGHT);
  const y = axis(points.map(([, value]) => value), HEIGHT - BOTTOM, TOP);
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}">`,
    `<style>${STYLE}</style>`,
    `<rect class="paper" width="${WIDTH}" height="${HEIGHT}"/>`,
    `<text class="title" x="${LEFT}" y="24">${title}</text>`,
  ];
  for (const power of y.powers) {
    const at = y.at(power).toFixed(1);
    out.push(`<line class="grid" x1="${LEFT}" y1="${at}" x2="${WIDTH - RIGHT}" y2="${at}"/>`);
    out.push(`<text class="end" x="${LEFT - 8}" y="${Number(at) + 4}">${power.toLocaleString('en')} ${unit}</text>`);
  }
  for (const power of x.powers) {
    const at = x.at(power).toFixed(1);
    out.push(`<line class="grid" x1="${at}" y1="${TOP}" x2="${at}" y2="${HEIGHT - BOTTOM}"/>`);
    out.push(`<text class="middle" x="${at}" y="${HEIGHT - BOTTOM + 18}">${power.toLocaleString('en')}</text>`);
  }
  out.push(`<text class="middle" x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 12}">${xTitle}</text>`);
  curves.forEach((curve, n) => {
    const [column, line] = [n % 2, n >> 1];
    const [left, top] = [LEFT + 340 * column, 48 + 22 * line];
    out.push(`<line class="key c${n}" x1="${left}" y1="${top - 4}" x2="${left + 22}" y2="${top - 4}"/>`);
    out.push(`<text x="${left + 28}" y="${top}">${curve.title}</text>`);
    const path = curve.points.map((point) => `${x.at(point[0]).toFixed(1)},${y.at(point[1]).toFixed(1)}`);
    out.push(`<polyline class="c${n}" points="${path.join(' ')}"/>`);
  });
  return `${out.join('\n')}\n</svg>\n`;
}
