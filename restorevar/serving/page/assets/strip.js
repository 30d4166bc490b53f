// The photos of this visit, the newest first; each is a button that brings it back to the stage.
"use strict";

const STATES = {waiting: "waiting", working: "at work", done: "", failed: "failed", cancelled: "cancelled"};

function drawStrip(photos, notes, chosen) {
  const list = document.querySelector("#strip ul");
  const tiles = new Map([...list.querySelectorAll("li[data-key]")].map((tile) => [tile.dataset.key, tile]));
  const wanted = [
    ...notes.map((note, i) => ({key: `note-${i}`, note, i})),
    ...[...photos].reverse().map((photo) => ({key: photo.id, photo})),
  ];
  let last = list.querySelector(".more");
  for (const {key, note, i, photo} of wanted) {
    const tile = tiles.get(key) ?? makeTile(key);
    tiles.delete(key);
    if (note) fillNote(tile, note, i);
    else fillPhoto(tile, photo, photo.id === chosen);
    if (last.nextElementSibling !== tile) last.after(tile);
    last = tile;
  }
  tiles.forEach((tile) => tile.remove());
  const all = document.querySelector("#strip .all");
  all.hidden = photos.filter((photo) => photo.download).length < 2;
  all.href = `visit/${state.visit}/all`;
}

function makeTile(key) {
  const tile = document.createElement("li");
  tile.dataset.key = key;
  const button = Object.assign(document.createElement("button"), {type: "button"});
  const image = Object.assign(document.createElement("img"), {alt: ""});
  const state = Object.assign(document.createElement("span"), {className: "state"});
  const name = Object.assign(document.createElement("span"), {className: "name"});
  button.append(image, state, name);
  tile.append(button);
  return tile;
}

function fillPhoto(tile, photo, isChosen) {
  const button = tile.firstChild;
  const [image, state, name] = button.children;
  Object.assign(button.dataset, {act: "choose", id: photo.id});
  if (isChosen) button.setAttribute("aria-current", "true");
  else button.removeAttribute("aria-current");
  tile.className = photo.state;
  const source = photo.thumb ?? "";
  image.hidden = !source;
  if (source && image.getAttribute("src") !== source) image.src = source;
  state.textContent = photo.untouched ? "left alone" : STATES[photo.state];
  name.textContent = photo.name;
}

function fillNote(tile, note, i) {
  const button = tile.firstChild;
  const [image, state, name] = button.children;
  tile.className = note.failed ? "failed" : "waiting";
  button.dataset.note = i;
  if (note.failed) button.dataset.act = "dismiss";
  image.hidden = true;
  state.textContent = note.text;
  name.textContent = note.name;
}
