// Changing the page in place: elements stay the same ones, so that focus, selection and a reader's place stay too.
// Text goes in as text, never as markup: sensor ids are anybody's.

/** Make an element with properties and children (elements or text). */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Set an element's text, if it is another. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set an attribute, if it is another. */
export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/**
 * Give a parent one child for each item, in their order; a child stays with its item's key.
 *
 * `create` makes a child, `update(child, item)` brings it up to date. Children that were not made here stay in front.
 */
export function keepChildren(parent, items, key, create, update) {
  const wanted = new Set(items.map(key));
  const kept = new Map();
  for (const child of [...parent.children]) {
    if (wanted.has(child.itemKey)) kept.set(child.itemKey, child);
    else if (child.itemKey !== undefined) child.remove();
  }
  let next = [...kept.values()][0] ?? null;
  for (const item of items) {
    let child = kept.get(key(item));
    if (child === undefined) {
      child = create(item);
      child.itemKey = key(item);
    }
    update(child, item);
    if (child === next) next = child.nextElementSibling;
    else parent.insertBefore(child, next);
  }
}

/**
 * Make a table's head. Roles are written out in all tables, because the narrow layout takes their own away.
 *
 * `left` numbers the columns of words; the others are of figures.
 */
export function head(labels, left) {
  const cell = (label, number) =>
    make("th", { role: "columnheader", scope: "col", class: left.includes(number) ? "" : "number" }, label);
  return make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...labels.map(cell)));
}
