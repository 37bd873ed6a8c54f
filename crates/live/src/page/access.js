// Asks for the admin token if one is needed, explains if no token would help, and forgets the token on request.

import { byId, setHidden, setText } from './dom.js';
import { forgetToken, rememberToken, token } from './session.js';

const NO_TOKEN_SET =
  'The API has no ADMIN_TOKEN, so it shows its numbers only to its own machine, over a loopback address. '
  + 'Set ADMIN_TOKEN for flashsale-api, restart it, and enter the token here. '
  + 'Or open this page on the same machine, at http://127.0.0.1 and the port of the API.';

/** Whether the user entered the token that the stream refused. */
let tried = false;

export function openAccess(model, stream) {
  const field = byId('token');
  byId('token-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const value = field.value.trim();
    // An HTTP header can carry only these characters.
    if (!/^[\x20-\x7e]+$/.test(value)) return complain(value === '' ? 'Enter the token.' : 'A token has only printable ASCII characters.');
    complain('');
    tried = true;
    rememberToken(value);
    stream.start();
  });
  byId('access-retry').addEventListener('click', () => stream.start());
  byId('forget-token').addEventListener('click', () => {
    forgetToken();
    tried = false;
    model.clear();
    stream.stop();
    complain('');
  });
}

export function drawAccess(model, stream) {
  const wanted = ['unauthorized', 'stopped'].includes(stream.phase);
  const forbidden = stream.phase === 'forbidden';
  const section = byId('access');
  const appears = section.hidden && (wanted || forbidden);
  setHidden(byId('forget-token'), token() === null);
  // While the token is being checked, the form stays visible.
  if (stream.phase === 'connecting' && !section.hidden) {
    byId('token-submit').disabled = true;
    return;
  }
  byId('token-submit').disabled = false;
  setHidden(section, !wanted && !forbidden);
  setHidden(byId('dashboard'), model.now === null && (wanted || forbidden));
  setHidden(byId('token-form'), !wanted);
  setHidden(byId('access-retry'), !forbidden);
  setText(byId('access-title'), forbidden ? 'Set ADMIN_TOKEN' : 'Admin token');
  setText(byId('access-text'), forbidden ? NO_TOKEN_SET : 'You need the admin token of this service to see its numbers and to use the buttons.');
  if (!wanted && !forbidden) {
    tried = false;
    byId('token').value = '';
    complain('');
  }
  if (stream.phase === 'unauthorized' && token() !== null) {
    forgetToken();
    setHidden(byId('forget-token'), true);
    complain(tried ? 'This token is wrong.' : 'The token of this tab is no longer valid.');
    byId('token').select();
  }
  if (appears && wanted) byId('token').focus();
}

function complain(message) {
  setText(byId('token-error'), message);
  byId('token').setAttribute('aria-invalid', String(message !== ''));
}
