// Connects the parts of the page: the stream updates the model, and the views draw the model.

import { openAccess, drawAccess } from './access.js';
import { openDialogs } from './dialogs.js';
import { drawAudit } from './audit.js';
import { drawChart, openChart } from './chart.js';
import { drawDelivery } from './delivery.js';
import { openFeed, drawFeed } from './feed.js';
import { openFind } from './find.js';
import { drawFunnel } from './funnel.js';
import { drawHealth } from './health.js';
import { Model } from './model.js';
import { drawProcesses, drawServers } from './machines.js';
import { drawProductView, openProductView } from './product-view.js';
import { openProducts, drawProducts } from './products.js';
import { drawRates } from './rates.js';
import { Stream } from './stream.js';
import { drawWaitlists } from './waitlists.js';

const model = new Model();
const stream = new Stream({
  onEvent: (type, message) => model.apply(type, message),
  onChange: draw,
});

const VIEWS = [
  drawRates, drawChart, drawFunnel, drawDelivery, drawAudit, drawServers, drawProcesses, drawProducts, drawFeed,
  drawWaitlists, drawProductView,
];

// The title and the announcement are also updated in a hidden tab.
function draw() {
  drawHealth(model, stream);
  drawSoon();
}

// A hidden tab gets no animation frames. All changes are drawn at once when it is visible again.
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
openChart(drawSoon);
openProducts(model, drawSoon);
openProductView(drawSoon);
openFind(model);
openFeed(drawSoon);
stream.start();
// Ages and durations on the page change even without new data.
setInterval(draw, 1000);
