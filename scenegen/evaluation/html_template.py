"""The frame of the page of `scenegen.evaluation.html_page`: style and script, nothing from outside."""

from __future__ import annotations

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@TITLE@</title>
<style>
  body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem; color: #222; background: #fafafa; }
  h1 { font-size: 1.3rem; overflow-wrap: anywhere; }
  pre { overflow-x: auto; font-size: 12px; background: #fff; border: 1px solid #ddd; padding: 0.8rem; }
  form { position: sticky; top: 0; background: #fafafa; padding: 0.6rem 0; z-index: 1; }
  form label { margin-right: 1rem; }
  article { background: #fff; border: 1px solid #ddd; padding: 0.8rem; margin: 0.8rem 0; }
  article h2 { font-size: 1rem; margin: 0 0 0.4rem; }
  .note { color: #a33; margin: 0.2rem 0; }
  .views { display: flex; flex-wrap: wrap; gap: 0.6rem; }
  figure { margin: 0; }
  figcaption { font-size: 12px; color: #555; }
  img.view { height: 192px; width: auto; display: block; border: 1px solid #eee; }
  .turntable { width: 192px; height: 192px; border: 1px solid #eee; background-size: 1536px 192px; }
  .turntable.moving { animation: turn 4s steps(8) infinite; }
  .empty { width: 192px; height: 192px; border: 1px dashed #ccc; color: #999; display: grid;
           place-items: center; }
  dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 0 1rem;
       font-size: 12px; }
  dl div { display: flex; justify-content: space-between; }
  dd { margin: 0; font-variant-numeric: tabular-nums; }
  @keyframes turn { to { background-position-x: -1536px; } }
  @media (prefers-reduced-motion: reduce) { .turntable.moving { animation: none; } }
</style>
</head>
<body>
<h1>@TITLE@</h1>
<details><summary>Tables</summary><pre>@TABLES@</pre></details>
<form onsubmit="return false">
  <label>Figure <select id="figure"></select></label>
  <label>Order <select id="order"><option value="worst">worst first</option>
    <option value="best">best first</option></select></label>
  <label>from <input id="low" type="number" step="any" size="7"></label>
  <label>to <input id="high" type="number" step="any" size="7"></label>
  <label>Scene <input id="name" type="search" size="12"></label>
  <span id="count" aria-live="polite"></span>
</form>
<main id="scenes"></main>
<script>
const data = @DATA@;
const byId = id => document.getElementById(id);
const make = (tag, values = {}, children = []) => {
  const node = Object.assign(document.createElement(tag), values);
  node.append(...children);
  return node;
};
for (const name of data.names) byId("figure").append(make("option", {value: name, textContent: name}));
byId("figure").value = data.first;

const still = (scene, key, text) => make("figure", {}, [
  scene.pictures[key]
    ? make("img", {className: "view", loading: "lazy", src: scene.pictures[key],
                   alt: text + " of " + scene.id})
    : make("div", {className: "empty", textContent: "none"}),
  make("figcaption", {textContent: text})]);

const turning = (scene, key, text) => {
  const box = make("div", {className: scene.pictures[key] ? "turntable moving" : "empty"});
  if (scene.pictures[key]) {
    box.style.backgroundImage = "url('" + scene.pictures[key] + "')";
    box.role = "img";
    box.ariaLabel = text + " of " + scene.id;
  } else box.textContent = "none";
  return make("figure", {}, [box, make("figcaption", {textContent: text})]);
};

const article = (scene, figure) => make("article", {}, [
  make("h2", {textContent: scene.id + ": " + figure + " " + (scene.figures[figure] ?? NaN).toFixed(4)
    + ", " + scene.objects + " objects, " + scene.status}),
  ...(scene.note ? [make("p", {className: "note", textContent: scene.note})] : []),
  make("div", {className: "views"}, [
    still(scene, "photo", "photo"), still(scene, "truth", "truth"),
    still(scene, "prediction", "prediction, aligned"),
    turning(scene, "truth_turntable", "truth from all sides"),
    turning(scene, "prediction_turntable", "prediction from all sides")]),
  make("details", {}, [make("summary", {textContent: "figures"}), make("dl", {},
    Object.entries(scene.figures).map(([name, value]) => make("div", {}, [
      make("dt", {textContent: name}), make("dd", {textContent: value.toFixed(4)})])))])]);

const show = () => {
  const figure = byId("figure").value;
  const isLower = data.lower.includes(figure) !== (byId("order").value === "best");
  const low = parseFloat(byId("low").value), high = parseFloat(byId("high").value);
  const name = byId("name").value.trim();
  const chosen = data.scenes.filter(scene => {
    const value = scene.figures[figure];
    return value !== undefined && !(value < low) && !(value > high) && scene.id.includes(name);
  }).sort((a, b) => (isLower ? 1 : -1) * (b.figures[figure] - a.figures[figure]));
  byId("count").textContent = chosen.length + " of " + data.scenes.length + " scenes";
  byId("scenes").replaceChildren(...chosen.map(scene => article(scene, figure)));
};
for (const id of ["figure", "order", "low", "high", "name"]) byId(id).addEventListener("input", show);
show();
</script>
</body>
</html>
"""
