// Tables that refresh in place: rows are kept by their key, so that focus and selection survive.

import { h, setText } from "/shared/dom.js";

/**
 * @template Row
 * @typedef {object} Column
 * @property {string} title
 * @property {string} [kind] a class of its cells: `number`, `wide`, `actions`
 * @property {(row: Row) => string} [text] what the cell says; written again where it changed
 * @property {(row: Row) => Node} [node] or what it holds; made once for each row, and again when `version` changes
 * @property {(row: Row) => string} [version]
 */

/** @template Row */
export class Table {
  /** @type {Map<string, { row: HTMLTableRowElement, versions: string[] }>} */
  #rows = new Map();

  /**
   * @param {object} about
   * @param {string} about.label
   * @param {Column<Row>[]} about.columns
   * @param {(row: Row) => string} about.key
   * @param {string} about.empty what is said instead of no rows
   */
  constructor({ label, columns, key, empty }) {
    this.columns = columns;
    this.key = key;
    // On a narrow screen rows become blocks, and a browser would no longer take it for a table: hence the roles.
    const heads = columns.map(({ title, kind }) => {
      const inside = title === "" ? h("span", { class: "visually-hidden" }, "Actions") : title;
      return h("th", { role: "columnheader", scope: "col", class: kind }, inside);
    });
    this.body = h("tbody", { role: "rowgroup" });
    this.table = h(
      "table",
      { role: "table", "aria-label": label },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads)),
      this.body,
    );
    this.empty = h("p", { class: "empty soft" }, empty);
    this.element = h("div", { class: "table", tabindex: "-1" }, this.table, this.empty);
    this.table.hidden = true;
    this.empty.hidden = true;
  }

  /** @param {Row[]} rows */
  update(rows) {
    const keys = new Set(rows.map(this.key));
    const focused = document.activeElement;
    for (const [key, { row }] of this.#rows) {
      if (keys.has(key)) continue;
      const next = row.nextElementSibling ?? row.previousElementSibling;
      const hadFocus = row.contains(focused);
      row.remove();
      this.#rows.delete(key);
      if (hadFocus) /** @type {HTMLElement} */ (next?.querySelector("button, a") ?? this.element).focus();
    }
    rows.forEach((data, index) => {
      const row = this.#place(data);
      if (this.body.children[index] !== row) this.body.insertBefore(row, this.body.children[index] ?? null);
    });
    this.table.hidden = rows.length === 0;
    this.empty.hidden = rows.length !== 0;
  }

  /** @param {Row} data */
  #place(data) {
    const key = this.key(data);
    let entry = this.#rows.get(key);
    if (entry === undefined) {
      const cells = this.columns.map(({ title, kind }) => h("td", { role: "cell", class: kind, "data-label": title }));
      entry = { row: h("tr", { role: "row" }, ...cells), versions: this.columns.map(() => "\0") };
      this.#rows.set(key, entry);
    }
    const { row, versions } = entry;
    this.columns.forEach(({ text, node, version }, index) => {
      const cell = row.cells[index];
      if (text !== undefined) return setText(cell, text(data));
      const is = version?.(data) ?? "";
      if (node !== undefined && versions[index] !== is) cell.replaceChildren(node(data));
      versions[index] = is;
    });
    return row;
  }
}
