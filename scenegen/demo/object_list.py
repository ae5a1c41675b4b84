"""The list of a picture's objects on the page: names, order, query, deletion, and which one clicks correct.

The browser sends what somebody did as ``{"kind": ..., "key": ...}``; the server changes the objects and
sends new rows. An object keeps its key wherever it stands, so that nothing goes wrong where somebody is
quicker than the answers. Everything is a native control, so that the keyboard reaches it.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from scenegen.confidence.calibration import doubt
from scenegen.demo.pictures import colour_of
from scenegen.demo.prompts import MAX_NAME_LENGTH, CurrentPicture
from scenegen.demo.session import MadeScene
from scenegen.inputs.image_files import SceneInputError
from scenegen.pipelines.result import GeneratedObject

if TYPE_CHECKING:
    import gradio

KINDS = ("select", "rename", "delete", "move", "query")

_ROWS = f"""
{{{{#if value.length}}}}<ol>
{{{{#each value}}}}<li draggable="true" class="{{{{this.classes}}}}"
  data-number="{{{{this.number}}}}" data-key="{{{{this.key}}}}">
  <span class="handle" title="drag to change the order" aria-hidden="true">&#8942;&#8942;</span>
  <button data-kind="select" aria-pressed="{{{{this.selected}}}}" title="clicks on the result correct it"
    aria-label="correct object {{{{this.number}}}} by clicks" style="background: {{{{this.colour}}}}"
    >{{{{this.number}}}}</button>
  <input data-kind="rename" value="{{{{{{this.markup}}}}}}" maxlength="{MAX_NAME_LENGTH}" placeholder="name"
    aria-label="name of object {{{{this.number}}}}">
  <span class="state">{{{{this.state}}}}</span>
  <span class="sure" title="{{{{this.chances}}}}">{{{{this.sure}}}}</span>
  <button data-kind="reroll" title="make this object of the scene anew and keep the others"
    aria-label="make object {{{{this.number}}}} anew">&#8635; anew</button>
  <button data-kind="query" aria-pressed="{{{{this.query}}}}" title="the scene gets the frame of this object"
    aria-label="object {{{{this.number}}}} is the query">query</button>
  <button data-kind="up" aria-label="move object {{{{this.number}}}} up">&#8593;</button>
  <button data-kind="down" aria-label="move object {{{{this.number}}}} down">&#8595;</button>
  <button data-kind="delete" aria-label="delete object {{{{this.number}}}}">&#10005;</button>
</li>{{{{/each}}}}
</ol>{{{{else}}}}<p>No objects yet. Draw a box around each object and run the segmentation.</p>{{{{/if}}}}
"""

_STYLE = """
ol { list-style: none; margin: 0; padding: 0; }
li { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; padding: 4px;
  border: 1px solid var(--border-color-primary); border-radius: 6px; margin-bottom: 4px;
  background: var(--block-background-fill); color: var(--body-text-color); }
li.selected { outline: 2px solid var(--color-accent); }
li.over { border-top: 3px solid var(--color-accent); }
.handle { cursor: grab; color: var(--body-text-color-subdued); }
input { flex: 1 1 90px; min-width: 70px; padding: 2px 6px; border-radius: 4px;
  border: 1px solid var(--border-color-primary);
  background: var(--input-background-fill); color: var(--body-text-color); }
.sure { font-size: 0.85em; white-space: nowrap; }
li:not(.made) button[data-kind="reroll"] { display: none; }
.state { color: var(--body-text-color-subdued); font-size: 0.85em; white-space: nowrap; }
button { min-width: 30px; padding: 2px 8px; border-radius: 4px; cursor: pointer;
  border: 1px solid var(--border-color-primary);
  background: var(--button-secondary-background-fill); color: var(--button-secondary-text-color); }
button[data-kind="select"] { color: #fff; text-shadow: 0 0 3px #000, 0 0 2px #000; font-weight: bold; }
button[data-kind="query"][aria-pressed="true"] { background: var(--color-accent); color: #fff; }
"""

_SCRIPT = """
let dragged = null, focus = null;
const row = target => target.closest('li[data-key]');
const key = item => Number(item.dataset.key);
function act(data, kind, item) {
  focus = kind && item ? {kind: kind, key: key(item)} : null;
  trigger('act', data);
}
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-kind]');
  if (!button) return;
  const kind = button.dataset.kind, item = row(button);
  const before = item.previousElementSibling, after = item.nextElementSibling;
  if (kind === 'up' || kind === 'down') {
    const target = kind === 'up' ? before : after;
    if (target) act({kind: 'move', key: key(item), target: key(target)}, kind, item);
  } else if (kind === 'reroll') {
    trigger('reroll', {key: key(item)});
  } else {
    act({kind: kind, key: key(item)}, kind, kind === 'delete' ? after || before : item);
  }
});
element.addEventListener('change', event => {
  if (event.target.dataset.kind === 'rename')
    act({kind: 'rename', key: key(row(event.target)), name: event.target.value});
});
element.addEventListener('dragstart', event => {
  if (!row(event.target)) return;
  dragged = key(row(event.target));
  event.dataTransfer.effectAllowed = 'move';
  event.dataTransfer.setData('text/plain', String(dragged));
});
element.addEventListener('dragover', event => {
  const over = row(event.target);
  if (dragged === null || !over) return;
  event.preventDefault();
  element.querySelectorAll('li.over').forEach(item => item.classList.remove('over'));
  over.classList.add('over');
});
element.addEventListener('dragend', () => {
  dragged = null;
  element.querySelectorAll('li.over').forEach(item => item.classList.remove('over'));
});
element.addEventListener('drop', event => {
  const over = row(event.target);
  if (dragged === null || !over) return;
  event.preventDefault();
  const from = dragged, to = key(over);
  dragged = null;
  if (from !== to) act({kind: 'move', key: from, target: to});
});
watch('value', () => {
  if (!focus) return;
  const found = element.querySelector(
    `li[data-key="${focus.key}"] button[data-kind="${focus.kind}"]`);
  focus = null;
  if (found) found.focus();
});
"""


def object_list() -> gradio.HTML:
    """The component; its value are `object_rows`. Its event ``act`` tells what somebody did to the objects.

    The event ``reroll`` tells which object of the scene somebody wants anew.
    """
    import gradio as gr

    return gr.HTML(
        [],
        label="Objects",
        html_template=_ROWS,
        css_template=_STYLE,
        js_on_load=_SCRIPT,
        elem_id="objects",
    )


def object_rows(picture: CurrentPicture | None, scene: MadeScene | None = None) -> list[dict[str, Any]]:
    """The rows of the list.

    Args:
        picture: that is being marked.
        scene: that was made last; where it was made of this picture, each row tells how sure its object is.
    """
    if picture is None:
        return []
    made = {} if scene is None else objects_made_of(picture, scene)
    labels = picture.labels()
    rows = []
    for number, item in enumerate(picture.objects, start=1):
        is_selected = item is picture.selected
        share = 100 * (labels == number).mean()
        rows.append(
            {
                "key": item.key,
                "number": number,
                "name": item.prompt.name,
                "markup": _for_template(item.prompt.name),
                "colour": "rgb({}, {}, {})".format(*colour_of(number)),
                "state": "no mask yet" if item.mask is None else f"{share:.1f} % of the picture",
                "query": str(item is picture.query).lower(),
                "selected": str(is_selected).lower(),
                "classes": " ".join(["selected"] * is_selected + ["made"] * (number in made)),
                **_sure(made.get(number)),
            }
        )
    return rows


def objects_made_of(picture: CurrentPicture, scene: MadeScene) -> dict[int, GeneratedObject]:
    """The objects of a scene by their numbers in the picture; none where it is of another picture."""
    pair = scene.pairs[0]
    if pair.photo is not picture.photo:
        return {}
    numbers = {item.key: number for number, item in enumerate(picture.objects, start=1)}
    found = {}
    for item in scene.result.objects:
        if item.object_id < len(pair.keys) and pair.keys[item.object_id] in numbers:
            found[numbers[pair.keys[item.object_id]]] = item
    return found


def _sure(item: GeneratedObject | None) -> dict[str, str]:
    """How sure one can be of an object, in a few words, and in numbers."""
    if item is None or item.confidence is None:
        return {"sure": "", "chances": ""}
    chances = ", ".join(f"{name} {value:.0%}" for name, value in item.confidence.known.items())
    words = doubt("", item.confidence)
    return {"sure": f"⚠️{words}" if words else "✓ looks right", "chances": f"right by chance: {chances}"}


def apply_action(picture: CurrentPicture, action: dict[str, Any]) -> None:
    """Do to the objects what somebody did in the list.

    Raises:
        SceneInputError: an unknown action, or an object that is not there.
    """
    kind, key, target = action.get("kind"), action.get("key"), action.get("target")
    if kind not in KINDS or not isinstance(key, int) or (kind == "move" and not isinstance(target, int)):
        raise SceneInputError(
            f"object list: expected one of {', '.join(KINDS)} and an object's key, got {str(action):.100}"
        )
    number = picture.number_of(key)
    if kind == "select":
        picture.select(number)
    elif kind == "rename":
        picture.rename(number, str(action.get("name", "")))
    elif kind == "delete":
        picture.delete(number)
    elif kind == "move":
        picture.move(number, picture.number_of(target))
    else:
        chosen = picture.at(number)
        picture.choose_query(None if picture.query is chosen else number)


def shown_keys(rows: Any) -> tuple[int, ...]:
    """The keys of the objects in the list as a page sends it back.

    Raises:
        SceneInputError: something else came.
    """
    try:
        keys = tuple(row["key"] for row in rows or ())
    except (TypeError, KeyError) as error:
        raise SceneInputError(
            f"object list: expected its rows, got {str(rows):.100}; reload the page"
        ) from error
    return keys


def _for_template(text: str) -> str:
    """Text as it may stand in the template, which the browser reads as HTML inside a JavaScript literal."""
    return escape(text).translate({ord(sign): f"&#{ord(sign)};" for sign in "\\`$"})
