// A line chart of the last five minutes, drawn as SVG. The text around it is HTML, so that it keeps its size.

import { h, s, setText } from "/shared/dom.js";
import { SPAN_MS } from "./history.js";
import { timeOfDay } from "./format.js";

/** @typedef {import("./history.js").Point} Point */
/** @typedef {import("./history.js").Figure} Figure */
/** @typedef {{ figure: Figure, name: string }} Line */

const WIDTH = 600;
const HEIGHT = 120;
const TOP = 6;

export class Chart {
  /** @type {Point[]} */
  #points = [];
  #nowMs = 0;
  #greatest = 1;

  /**
   * @param {object} about
   * @param {string} about.title
   * @param {Line[]} about.lines the first one is the one of the great figure
   * @param {(value: number) => string} about.format
   * @param {number} [about.atLeast] the least value that the top of the chart stands for
   * @param {boolean} [about.isSparse] values come now and then; those in between are joined
   */
  constructor({ title, lines, format, atLeast = 1, isSparse = false }) {
    this.title = title;
    this.lines = lines;
    this.format = format;
    this.atLeast = atLeast;
    this.isSparse = isSparse;

    this.figure = h("p", { class: "chart-figure" }, "–");
    this.note = h("p", { class: "chart-note soft" });
    this.paths = lines.map((_, index) => s("path", { class: `line line-${index}` }));
    this.areas = lines.slice(0, 1).map(() => s("path", { class: "area" }));
    this.cursor = s("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
    this.drawing = s(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title },
      s("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT / 2, y2: HEIGHT / 2 }),
      s("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }),
      ...this.areas,
      ...this.paths,
      this.cursor,
    );
    this.top = h("span", { class: "chart-top", "aria-hidden": "true" });
    this.reading = h("span", { class: "chart-reading", "aria-hidden": "true" });
    const plot = h("div", { class: "chart-plot" }, this.drawing, this.top, this.reading);
    plot.addEventListener("pointermove", (event) => this.#read(event, plot));
    plot.addEventListener("pointerleave", () => this.#stopReading());
    this.element = h(
      "section",
      { class: "card chart" },
      h("div", { class: "chart-head" }, h("h2", {}, title), lines.length > 1 ? legend(lines) : null),
      this.figure,
      this.note,
      plot,
      h("p", { class: "chart-axis soft", "aria-hidden": "true" }, h("span", {}, "5 min ago"), h("span", {}, "now")),
    );
  }

  /**
   * @param {Point[]} points
   * @param {number} nowMs
   * @param {string} note
   */
  update(points, nowMs, note) {
    this.#points = points;
    this.#nowMs = nowMs;
    const values = points.flatMap((point) => this.lines.map(({ figure }) => point[figure] ?? 0));
    const most = values.reduce((a, b) => Math.max(a, b), 0);
    this.#greatest = rounded(Math.max(most, this.atLeast));
    this.lines.forEach(({ figure }, index) => this.paths[index].setAttribute("d", this.#path(figure)));
    this.areas[0].setAttribute("d", this.#area(this.lines[0].figure));
    const last = this.#last(this.lines[0].figure);
    setText(this.figure, last === undefined ? "–" : this.format(last));
    setText(this.note, note);
    setText(this.top, this.format(this.#greatest));
    this.drawing.setAttribute("aria-label", `${this.title} over the last five minutes, at most ${this.format(most)}`);
  }

  /** @param {Figure} figure */
  #last(figure) {
    if (!this.isSparse) return this.#points.at(-1)?.[figure];
    return this.#points.findLast((point) => point[figure] !== undefined)?.[figure];
  }

  /**
   * The stretches without a gap, as coordinates.
   *
   * @param {Figure} figure
   * @returns {[number, number][][]}
   */
  #stretches(figure) {
    /** @type {[number, number][][]} */
    const stretches = [[]];
    for (const point of this.#points) {
      const value = point[figure];
      if (value !== undefined) {
        const x = WIDTH * (1 - (this.#nowMs - point.atMs) / SPAN_MS);
        const y = HEIGHT - 1 - (HEIGHT - 1 - TOP) * (value / this.#greatest);
        stretches[stretches.length - 1].push([x, y]);
      } else if (!this.isSparse || point.sessions === undefined) {
        stretches.push([]);
      }
    }
    return stretches.filter((stretch) => stretch.length > 0);
  }

  /** @param {Figure} figure */
  #path(figure) {
    return this.#stretches(figure)
      .map((stretch) => `M${(stretch.length === 1 ? [...stretch, stretch[0]] : stretch).map(place).join("L")}`)
      .join("");
  }

  /** @param {Figure} figure */
  #area(figure) {
    return this.#stretches(figure)
      .filter((stretch) => stretch.length > 1)
      .map((stretch) => `M${place([stretch[0][0], HEIGHT])}L${stretch.map(place).join("L")}L${place([stretch[stretch.length - 1][0], HEIGHT])}Z`)
      .join("");
  }

  /**
   * @param {PointerEvent} event
   * @param {HTMLElement} plot
   */
  #read(event, plot) {
    const { left, width } = plot.getBoundingClientRect();
    const atMs = this.#nowMs - SPAN_MS * (1 - (event.clientX - left) / width);
    let nearest = this.#points[0];
    for (const point of this.#points) {
      if (point.sessions !== undefined && Math.abs(point.atMs - atMs) < Math.abs(nearest.atMs - atMs)) nearest = point;
    }
    if (nearest === undefined) return;
    const x = WIDTH * (1 - (this.#nowMs - nearest.atMs) / SPAN_MS);
    this.cursor.setAttribute("x1", String(x));
    this.cursor.setAttribute("x2", String(x));
    this.cursor.setAttribute("visibility", "visible");
    const parts = this.lines.map(({ figure, name }) => {
      const value = nearest[figure];
      return `${name} ${value === undefined ? "–" : this.format(value)}`;
    });
    setText(this.reading, `${timeOfDay(nearest.atMs)}  ·  ${parts.join("  ·  ")}`);
  }

  #stopReading() {
    this.cursor.setAttribute("visibility", "hidden");
    setText(this.reading, "");
  }
}

/** @param {Line[]} lines */
function legend(lines) {
  const items = lines.map(({ name }, index) => h("li", {}, h("span", { class: `swatch swatch-${index}`, "aria-hidden": "true" }), name));
  return h("ul", { class: "legend" }, ...items);
}

/** @param {[number, number]} point */
const place = ([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`;

/** The next 1, 2 or 5 times a power of ten. @param {number} value */
function rounded(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= value) ?? 10;
  return step * power;
}
