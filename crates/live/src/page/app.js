// Puts the page together: the stream fills the model, and the views draw it.

import { openAccess, drawAccess } from './access.js';
import { openDialogs } from './dialogs.js';
import { drawAudit } from './audit.js';
import { drawChart } from './chart.js';
import { drawDelivery } from './delivery.js';
import { openFeed, drawFeed } from './feed.js';
import { drawFunnel } from './funnel.js';
import { drawHealth } from './health.js';
import { Model } from './model.js';
import { drawProcesses, drawServers } from './machines.js';
import { openProducts, drawProducts } from './products.js';
import { drawRates } from './rates.js';
import { Stream } from './stream.js';

const model = new Model();
const stream = new Stream({
  onEvent: (type, message) => model.apply(type, message),
  onChange: draw,
});

const VIEWS = [
  drawRates, drawChart, drawFunnel, drawDelivery, drawAudit, drawServers, drawProcesses, drawProducts, drawFeed,
];

// Title and announcement are for those, too, who look at another tab.
function draw() {
  drawHealth(model, stream);
  drawSoon();
}

// In a hidden tab frames do not come, and what has come meanwhile is drawn in one go.
let due = false;
function drawSoon() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    drawAccess(model, stream);
    if (model.now !== null) for (const view of VIEWS) view(model);
  });
}

openAccess(model, stream);
openDialogs(model);
openProducts(drawSoon);
openFeed(drawSoon);
stream.start();
// The clock goes on also where no news comes.
setInterval(draw, 1000);
