// A picture over another, as large as one likes. Shared by the report's gallery and the study.
//
//   openViewer({before: {label, src}, afters: [{label, src}, ...], index, split, title})
//
// Everything is a button, a slider or a field that scrolls, so that keys, fingers and mice all do. Keys besides:
// + and - zoom, 0 fits, Page Up and Page Down change the picture on top, Escape closes.
"use strict";

const openViewer = (() => {
  let dialog, shown, zoom;

  const make = (tag, properties, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };

  function build() {
    const button = (text, label, action) => {
      const node = make("button", {type: "button", textContent: text, onclick: action});
      node.setAttribute("aria-label", label);
      return node;
    };
    const parts = {
      title: make("strong", {}),
      before: make("img", {alt: ""}),
      after: make("img", {alt: "", className: "after"}),
      divider: make("div", {className: "divider"}),
      split: make("input", {type: "range", min: 0, max: 100, step: 1}),
      zoom: make("output", {}),
      previous: button("‹", "previous picture", () => turn(-1)),
      next: button("›", "next picture", () => turn(1)),
    };
    parts.split.setAttribute("aria-label", "where the pictures meet");
    parts.split.oninput = () => setSplit(parts.split.value);
    parts.stack = make("div", {className: "stack"}, parts.before, parts.after, parts.divider);
    parts.field = make("div", {className: "field", tabIndex: 0}, parts.stack);
    parts.field.setAttribute("aria-label", "picture; scroll to move it");
    const header = make(
      "header",
      {},
      parts.title,
      parts.previous,
      parts.next,
      button("−", "smaller", () => setZoom(zoom / 1.5)),
      parts.zoom,
      button("+", "larger", () => setZoom(zoom * 1.5)),
      button("fit", "fit into the window", () => setZoom(fitting())),
      button("close", "close", () => dialog.close()),
    );
    dialog = make("dialog", {className: "viewer"}, header, parts.field, make("footer", {}, parts.split));
    Object.assign(dialog, {parts, onkeydown: pressed});
    document.body.append(dialog);
  }

  function pressed(event) {
    const actions = {
      "+": () => setZoom(zoom * 1.5),
      "=": () => setZoom(zoom * 1.5),
      "-": () => setZoom(zoom / 1.5),
      "0": () => setZoom(fitting()),
      PageUp: () => turn(-1),
      PageDown: () => turn(1),
    };
    const action = event.ctrlKey || event.metaKey || event.altKey ? undefined : actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  // Zoom 1 is one pixel of the picture for one of the page.
  const fitting = () => {
    const {field, after} = dialog.parts;
    return Math.min(field.clientWidth / after.naturalWidth, field.clientHeight / after.naturalHeight);
  };

  // The point in the middle of the window stays there.
  function setZoom(wanted) {
    const {field, stack, after, zoom: told} = dialog.parts;
    const [x, y] = [
      (field.scrollLeft + field.clientWidth / 2) / field.scrollWidth,
      (field.scrollTop + field.clientHeight / 2) / field.scrollHeight,
    ];
    zoom = Math.min(8, Math.max(Math.min(fitting(), 1), wanted));
    stack.style.width = `${after.naturalWidth * zoom}px`;
    told.textContent = `${Math.round(zoom * 100)} %`;
    field.scrollLeft = x * field.scrollWidth - field.clientWidth / 2;
    field.scrollTop = y * field.scrollHeight - field.clientHeight / 2;
  }

  function setSplit(percent) {
    dialog.parts.split.value = percent;
    dialog.parts.stack.style.setProperty("--split", `${percent}%`);
  }

  function turn(step) {
    const count = shown.afters.length;
    shown.index = (shown.index + step + count) % count;
    show();
  }

  function show() {
    const {parts} = dialog;
    const over = shown.afters[shown.index];
    const labels = `${shown.before.label} | ${over.label}`;
    parts.title.textContent = shown.title ? `${shown.title}: ${labels}` : labels;
    parts.before.src = shown.before.src;
    parts.before.alt = shown.before.label;
    parts.after.src = over.src;
    parts.after.alt = over.label;
    parts.previous.hidden = parts.next.hidden = shown.afters.length < 2;
  }

  return async (what) => {
    if (!dialog) build();
    shown = {title: "", index: 0, ...what};
    show();
    setSplit(what.split ?? 50);
    dialog.showModal();
    await dialog.parts.after.decode();
    setZoom(fitting());
    dialog.parts.split.focus();
  };
})();
