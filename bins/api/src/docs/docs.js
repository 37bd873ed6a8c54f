// The scripts of the page: they add what needs one. Without them, the page is complete as text.

import { openConsole } from './console.js';
import { addCopyButtons } from './copy.js';
import { openSearch } from './search.js';

addCopyButtons(document);
openConsole();
openSearch();
