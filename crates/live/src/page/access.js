// Asks for the admin token where one is wanted, says so where none would help, and forgets it on demand.

import { byId, setHidden, setText } from './dom.js';
import { forgetToken, rememberToken, token } from './session.js';

const NO_TOKEN_SET =
  'The API has no ADMIN_TOKEN, so it shows its numbers only to its own machine, over a loopback address. '
  + 'Set ADMIN_TOKEN for flashsale-api, start it again, and come back with the token. '
  + 'Or open this page on the machine itself, at http://127.0.0.1 and the port of the API.';

/** Whether the token that the stream refused was typed in here. */
let tried = false;

export function openAccess(model, stream) {
  const field = byId('token');
  byId('token-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const value = field.value.trim();
    // A header takes no other characters.
    if (!/^[\x20-\x7e]+$/.test(value)) return complain(value === '' ? 'Type the token in.' : 'No token has such characters.');
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
  // While the token is on its way, the form stays where it is.
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
  setText(byId('access-text'), forbidden ? NO_TOKEN_SET : 'This service shows its numbers, and does what the buttons say, for those who have its admin token.');
  if (!wanted && !forbidden) {
    tried = false;
    byId('token').value = '';
    complain('');
  }
  if (stream.phase === 'unauthorized' && token() !== null) {
    forgetToken();
    setHidden(byId('forget-token'), true);
    complain(tried ? 'That is not the token.' : 'The token that this tab had is no longer right.');
    byId('token').select();
  }
  if (appears && wanted) byId('token').focus();
}

function complain(message) {
  setText(byId('token-error'), message);
  byId('token').setAttribute('aria-invalid', String(message !== ''));
}
