// Changes of the document that all views use. Each writes only changed values.

export const byId = (id) => document.getElementById(id);

/** A copy of the content of a `<template>`. */
export const fromTemplate = (id) => byId(id).content.firstElementChild.cloneNode(true);

export function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets an attribute. `null` removes it. */
export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export function setHidden(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

/**
 * Makes `parent` have one child per key, in the order of `keys`. Existing children stay, so that they keep the focus and
 * their running transitions. `nodes` maps each key to its child.
 */
export function keepInStep(parent, nodes, keys, create) {
  const wanted = new Set(keys);
  for (const [key, node] of nodes) {
    if (wanted.has(key)) continue;
    node.remove();
    nodes.delete(key);
  }
  let place = parent.firstElementChild;
  for (const key of keys) {
    let node = nodes.get(key);
    if (node === undefined) {
      node = create(key);
      nodes.set(key, node);
    }
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
}

/** A table with these heads. A row is a list of texts and nodes, and its first cell is the row's head. */
export function table(heads, rows) {
  const cell = (tag, content, properties) => {
    const node = make(tag, properties);
    node.append(content);
    return node;
  };
  return make('table', { className: 'listing' },
    make('thead', {}, make('tr', {}, ...heads.map((head) => cell('th', head, { scope: 'col' })))),
    make('tbody', {}, ...rows.map(([first, ...others]) => make('tr', {},
      cell('th', first, { scope: 'row' }), ...others.map((content) => cell('td', content))))));
}

/** The texts of a problem that the service answered. */
export function problemNodes(problem) {
  if (problem === null) return [];
  return [
    make('p', {}, make('strong', { textContent: problem.title })),
    ...(problem.detail ? [make('p', { textContent: problem.detail })] : []),
    make('p', {}, make('code', { textContent: problem.code })),
  ];
}
