// The outcome of all reservations since the counters were started.

import { byId, setHidden, setText } from './dom.js';
import { amount, share, UNKNOWN } from './format.js';

const PARTS = ['confirmed', 'held', 'canceled', 'expired'];

export function drawFunnel({ now: { funnel } }) {
  setHidden(byId('funnel-unknown'), funnel !== null);
  setText(byId('funnel-reserved'), funnel === null ? UNKNOWN : amount(funnel.reserved));
  const parts = funnel === null ? {} : { ...funnel, held: stillHeld(funnel) };
  for (const part of PARTS) {
    setText(byId(`funnel-${part}`), funnel === null ? UNKNOWN : amount(parts[part]));
    setText(byId(`funnel-${part}-share`), funnel === null ? UNKNOWN : share(parts[part], funnel.reserved));
  }
  drawBar(parts, funnel?.reserved ?? 0);
}

/** The counters are not read at the same instant, so for a moment the difference can be negative. */
const stillHeld = ({ reserved, confirmed, canceled, expired }) => Math.max(reserved - confirmed - canceled - expired, 0);

/** The parts are drawn as layers, the first on top. Each layer has the width of its part and all parts before it. */
function drawBar(parts, reserved) {
  const bar = byId('funnel-bar');
  let end = 0;
  for (const [part, layer] of [['confirmed', 'sold'], ['held', 'held'], ['canceled', 'canceled'], ['expired', 'expired']]) {
    end += reserved > 0 ? parts[part] / reserved : 0;
    bar.querySelector(`.${layer}`).style.transform = `translateX(${(Math.min(end, 1) - 1) * 100}%)`;
  }
}
